"""The index of a `ModelStore`: which versions there are and which is promoted, in one file that is replaced as a whole.

It is canonical JSON with a SHA-256 of its own text, as a manifest is. What it does not list is no version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from model_handler.errors import CorruptFileError, FormatVersionError, first_few
from model_handler.files.canonical_json import JsonValue, parse_with_own_hash, with_own_hash
from model_handler.files.regular_files import read_file
from model_handler.files.whole_files import write_whole
from repurpose.version import DISTRIBUTION

__all__ = ["INDEX", "Index", "ModelVersion", "read_index", "write_index"]

INDEX = "store.json"
_FORMAT = 1
_MOST_BYTES = 1 << 26  # some 300,000 versions
_FIELDS = {"number": int, "saved_at": str, "class": str, "size": int, "sha256": str}


@dataclass(frozen=True)
class ModelVersion:
    """One version in a `ModelStore`, without its arrays.

    Attributes
    ----------
    number : int
        From 1, in the order of saving.
    saved_at : datetime
        In UTC.
    class_name : str
        The class of the repurposer, ``"module:name"``.
    size : int
        Of all its files together, in bytes.
    sha256 : str
        Of its manifest, which has the hash of every other file: what `save_repurposer` returned.
    promoted : bool
        Whether it is the one that `ModelStore.load` gives unless another is asked for.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer, ModelStore
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> store = ModelStore("models")
    >>> store.save(LrRepurposer(network, c=1.0).repurpose(make_blobs(30, random_state=8)))
    1
    >>> store.list()[0].class_name
    'repurpose.meta_model.lr_repurposer:LrRepurposer'
    """

    number: int
    saved_at: datetime
    class_name: str
    size: int
    sha256: str
    promoted: bool = False


@dataclass(frozen=True)
class Index:
    """All versions, by their numbers in increasing order, at most one of which is promoted."""

    versions: tuple[ModelVersion, ...] = ()

    @property
    def next_number(self) -> int:
        """The number of the version to be saved next; the newest version is never removed, so that none comes twice."""
        return self.versions[-1].number + 1 if self.versions else 1

    @property
    def promoted(self) -> ModelVersion | None:
        """The promoted version, or None."""
        return next((version for version in self.versions if version.promoted), None)

    def find(self, number: int) -> ModelVersion | None:
        """Return the version of this number, or None."""
        return next((version for version in self.versions if version.number == number), None)


def write_index(folder: Path, index: Index) -> None:
    """Replace the index of the store in a directory, as a whole. Raises OSError where it cannot be written."""
    promoted = index.promoted
    content = {
        "format": _FORMAT,
        "promoted": promoted.number if promoted else None,
        "versions": [
            {
                "number": version.number,
                "saved_at": version.saved_at.isoformat(),
                "class": version.class_name,
                "size": version.size,
                "sha256": version.sha256,
            }
            for version in index.versions
        ],
    }
    write_whole(folder / INDEX, [with_own_hash({"content": content}).encode()], follow_links=False)


def read_index(folder: Path) -> Index:
    """Read the index of the store in a directory.

    Raises FileNotFoundError where there is none, CorruptFileError for one that is not what was written, UnsafeFileError
    for what is no regular file, FormatVersionError for one of a newer version of the library.
    """
    file = folder / INDEX
    data = read_file(file, most_bytes=_MOST_BYTES, follow_links=False)
    whole = parse_with_own_hash(data, str(file))
    content = whole.get("content")
    if len(whole) != 1 or not isinstance(content, dict):
        raise CorruptFileError(f"{file} is damaged: it is no index of a store")
    written = content.get("format")
    if type(written) is int and written > _FORMAT:
        raise FormatVersionError(
            f"{file} has format {written}, and this version reads formats up to {_FORMAT}: upgrade the library, pip "
            f"install --upgrade {DISTRIBUTION}"
        )
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{file} is damaged: {error}") from error


def _parsed(content: Mapping[str, JsonValue]) -> Index:
    """Turn the content of an index into its versions. Raises KeyError, TypeError or ValueError for anything else."""
    versions = tuple(_version(entry, content["promoted"]) for entry in content["versions"])
    numbers = [version.number for version in versions]
    if numbers != sorted(set(numbers)) or (numbers and numbers[0] < 1):
        raise ValueError(f"its versions have the numbers {numbers[:10]}")
    if content["promoted"] is not None and content["promoted"] not in numbers:
        raise ValueError(f"version {str(content['promoted'])[:20]} is promoted, which it does not list")
    return Index(versions)


def _version(entry: Mapping[str, JsonValue], promoted: JsonValue) -> ModelVersion:
    if wrong := [name for name, kind in _FIELDS.items() if type(entry[name]) is not kind]:
        raise ValueError(f"a version has no usable {first_few(wrong)}")
    return ModelVersion(
        entry["number"],
        datetime.fromisoformat(entry["saved_at"]),
        entry["class"],
        entry["size"],
        entry["sha256"],
        promoted=entry["number"] == promoted,
    )
