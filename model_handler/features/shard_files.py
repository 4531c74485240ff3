"""Shards of features: each is a file that `Features.load` reads too, and says which rows of what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler.errors import CorruptFileError
from model_handler.features.features import Features, features_in, parts_to_save
from model_handler.features.manifests import Manifest, ShardEntry
from model_handler.files.array_files import ArrayFile, map_arrays, write_arrays

__all__ = ["Shard", "entry_of", "is_shard_name", "read_shard", "shard_name", "write_shard"]

_SHARD = "shard"
_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Shard:
    """Features of the rows `first` up to `end` of all, but for the images left out, whose names and reasons `skipped`
    has; `paths` has a name for each row that is there, where rows have names.
    """

    first: int
    end: int
    features: Features
    paths: Sequence[str] | None = None
    skipped: Sequence[str] = ()


def shard_name(number: int) -> str:
    """Return the name of the file of a shard."""
    return f"shard-{number:06d}{_SUFFIX}"


def is_shard_name(name: str) -> bool:
    """Tell whether a file is called as a shard is."""
    return name.startswith("shard-") and name.endswith(_SUFFIX)


def write_shard(folder: Path, number: int, shard: Shard, manifest: Manifest) -> None:
    """Write a shard as a whole, synced to the disk. Raises OSError, on a full disk with the bytes that it needs."""
    arrays, content = parts_to_save(shard.features)
    paths = None if shard.paths is None else list(shard.paths)
    content[_SHARD] = {
        "of": manifest.digest,
        "first": shard.first,
        "end": shard.end,
        "n_rows": len(shard.features),
        "paths": paths,
        "skipped": list(shard.skipped),
    }
    write_arrays(folder / shard_name(number), arrays, content)


def entry_of(folder: Path, number: int, manifest: Manifest) -> tuple[ShardEntry, list[int]] | None:
    """Return a shard as a manifest lists it, and the width of each layer, by its header alone; None if it is missing.

    Raises CorruptFileError for a file that is damaged or of something else.
    """
    name = shard_name(number)
    try:
        file = map_arrays(folder / name, check=())
    except FileNotFoundError:
        return None
    about = _about(file, folder / name)
    if about["of"] != manifest.digest or file.sha256 is None:
        raise CorruptFileError(f"{folder / name} is of other features than its directory")
    features = features_in(file.arrays, file.content, str(folder / name))
    entry = ShardEntry(name, about["first"], about["end"], about["n_rows"], file.sha256)
    return entry, [array.shape[1] for array in features.values.values()]


def read_shard(folder: Path, entry: ShardEntry, *, check: Sequence[str] | None = None) -> Shard:
    """Map a shard that a manifest lists; its arrays agree with their hashes, or those that `check` names.

    Raises CorruptFileError for one that is missing, or is not what was written.
    """
    path = folder / entry.file
    again = "without it, the same call of extract_to computes it again"
    try:
        file = map_arrays(path, check=check)
    except FileNotFoundError as error:
        raise CorruptFileError(f"{folder} is damaged: its shard {entry.file} is gone; {again}") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; {again}") from error
    if file.sha256 != entry.sha256:
        raise CorruptFileError(f"{path} is not the shard that its manifest lists")
    about, features = _about(file, path), features_in(file.arrays, file.content, str(path))
    if len(features) != entry.n_rows:
        raise CorruptFileError(f"{path} has {len(features)} rows, and its manifest says {entry.n_rows}")
    return Shard(entry.first, entry.end, features, about["paths"], about["skipped"])


def _about(file: ArrayFile, path: Path) -> dict[str, Any]:
    about = file.content.get(_SHARD) if isinstance(file.content, dict) else None
    if not isinstance(about, dict) or set(about) != {"of", "first", "end", "n_rows", "paths", "skipped"}:
        raise CorruptFileError(f"{path} is no shard of features")
    return about
