"""The samples of a tar file: where in it each member lies, by the headers alone; what is unsafe or cut is refused.

Members of one sample follow each other and have one key, which is their name up to the first dot of its last part:
``cats/001.jpg`` and ``cats/001.cls``.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model_handler.errors import CorruptFileError, UnsafeFileError

__all__ = ["Place", "Sample", "samples_in"]

_BLOCK = 512

Place = tuple[int, int]  # offset and number of bytes


@dataclass(frozen=True)
class Sample:
    """Members of one key, each by its suffix in lower case, such as "jpg", with its place in the file."""

    key: str
    places: dict[str, Place]


def samples_in(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar file in order.

    Raises FileNotFoundError; UnsafeFileError for a member whose name leads out of a directory, or that is a link or a
    device; CorruptFileError for what is no tar file, is compressed, or was cut, and for a sample with a suffix twice.
    """
    key, places = "", dict[str, Place]()
    for name, place in _members(path):
        own_key, suffix = _split(name)
        if own_key != key and places:
            yield Sample(key, places)
            places = {}
        if suffix in places:
            raise CorruptFileError(f"{path} has the member {name!r} twice")
        key, places[suffix] = own_key, place
    if places:
        yield Sample(key, places)


def _members(path: Path) -> Iterator[tuple[str, Place]]:
    """Yield the regular files in a tar file, without hidden ones, each with its name and place."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in iter(tar.next, None):
                _refuse_unsafe(member, path)
                tar.members = []  # type: ignore[attr-defined]  # or the whole index is kept a second time
                if member.isfile() and not _is_hidden(member.name):
                    yield member.name, (member.offset_data, member.size)
            _refuse_cut(file, tar.offset, path)
    except tarfile.TarError as error:
        raise CorruptFileError(f"{path} is no whole tar file ({error}); {_advice(path)}") from error


def _refuse_unsafe(member: tarfile.TarInfo, path: Path) -> None:
    parts = PurePosixPath(member.name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(member.name) > 1 and member.name[1] == ":"):
        raise UnsafeFileError(f"{path} has a member {member.name[:80]!r}, whose name leads out of its directory")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise UnsafeFileError(f"{path} has a member {member.name[:80]!r} that is no plain file, but a link or device")


def _refuse_cut(file: object, end: int, path: Path) -> None:
    """Raise CorruptFileError unless a block of zeros follows the last member: tarfile takes any end for the end."""
    with path.open("rb") as again:
        again.seek(end)
        if again.read(_BLOCK) != bytes(_BLOCK):
            raise CorruptFileError(f"{path} was cut: it has no end behind its last member; {_advice(path)}")


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(6)
    if beginning[:2] == b"\x1f\x8b" or beginning[:3] == b"BZh" or beginning in (b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"):
        return "it is compressed: unpack it once (gunzip), as rows are read from any place, and images do not shrink"
    return "copy or make it again"


def _is_hidden(name: str) -> bool:
    last = PurePosixPath(name).name
    return last.startswith((".", "__"))


def _split(name: str) -> tuple[str, str]:
    folder, _, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}/{stem}" if folder else stem, suffix.lower()
