"""Manifests: what a directory of shards of features holds, and what they were computed by.

It is written before the first shard, and once more when the last one is there, with the rows and the hash of each.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from model_handler.errors import CorruptFileError, FormatVersionError
from model_handler.files.canonical_json import JsonValue, canonical, parse_with_own_hash, with_own_hash
from model_handler.files.regular_files import read_file
from model_handler.files.whole_files import write_whole

__all__ = ["MANIFEST", "Manifest", "ShardEntry", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
_FORMAT = 1
_KIND = "feature_shards"


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard: its file, the numbers of its rows among all (from `first` up to and without `end`), how many of
    them it holds (unreadable images are left out where that is asked), and the SHA-256 of its text, which has that of
    each of its arrays.
    """

    file: str
    first: int
    end: int
    n_rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the shards of a directory are parts of.

    `computed_by` names everything that the features depend on, each with a text or a hash. `n_rows` and `n_shards` are
    None where data comes as a stream that has not ended yet; `widths` and `shards` until all of them are there.
    """

    layer_names: list[str]
    rows_per_shard: int
    n_rows: int | None
    n_shards: int | None
    class_names: list[str] | None
    computed_by: Mapping[str, JsonValue]
    widths: list[int] | None = None
    shards: list[ShardEntry] | None = None

    @property
    def digest(self) -> str:
        """What each shard names, as the whole that it is a part of."""
        return sha256(canonical([self.layer_names, self.rows_per_shard, dict(self.computed_by)]).encode()).hexdigest()

    def completed(self, shards: list[ShardEntry], widths: list[int]) -> "Manifest":
        """Return the manifest of these shards, which are all."""
        return replace(self, n_rows=shards[-1].end, n_shards=len(shards), shards=shards, widths=widths)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a directory, as a whole. Raises OSError where it cannot be written."""
    text = with_own_hash({_KIND: _FORMAT, **asdict(manifest)})
    write_whole(folder / MANIFEST, [text.encode()])


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a directory; None where there is none.

    Raises CorruptFileError, naming the file, for one that is damaged.
    """
    path = folder / MANIFEST
    try:
        parts = parse_with_own_hash(read_file(path), str(path))
    except FileNotFoundError:
        return None
    if _is_count(number := parts.pop(_KIND, None)) and number > _FORMAT:
        raise FormatVersionError(f"{path} has format {number}, and this version reads up to {_FORMAT}: upgrade it")
    if number != _FORMAT or set(parts) != {field.name for field in fields(Manifest)}:
        raise CorruptFileError(f"{path} is no manifest of shards of features")
    try:
        return _checked(parts)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} is damaged: {error}") from error


def _checked(parts: dict[str, Any]) -> Manifest:
    shards, widths, names = parts.pop("shards"), parts.pop("widths"), parts["layer_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its layers are no list of names")
    if not isinstance(parts["computed_by"], dict) or not _is_count(parts["rows_per_shard"]):
        raise ValueError("it does not say what computed the features")
    if not all(parts[name] is None or _is_count(parts[name]) for name in ("n_rows", "n_shards")):
        raise ValueError("its rows and shards have no numbers")
    classes = parts["class_names"]
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError("its class names are no list of names")
    entries = None if shards is None else [_entry(shard) for shard in shards]
    if entries is not None and (not isinstance(widths, list) or len(widths) != len(names) or not entries):
        raise ValueError("its layers have no widths")
    return Manifest(**parts, widths=widths, shards=entries)


def _entry(shard: dict[str, Any]) -> ShardEntry:
    entry = ShardEntry(**shard)
    if Path(entry.file).name != entry.file or not isinstance(entry.sha256, str):
        raise ValueError(f"{str(entry.file)[:60]!r} is no file in its directory")
    if not all(map(_is_count, (entry.first, entry.end, entry.n_rows))) or entry.n_rows > entry.end - entry.first:
        raise ValueError(f"the rows of {entry.file} are none")
    return entry


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
