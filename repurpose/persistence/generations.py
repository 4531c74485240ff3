"""Atomic updates of several files in a directory: a reader finds the old generation or the new one, whole.

`manifest.json` names the files of the present generation, each with its size and SHA-256, and has a SHA-256 of its own
text. The other files carry their hash in their names, so that no generation overwrites another's; they are written and
synced first, and one atomic renaming of the manifest commits. Writers hold one lock of the system, under which what
neither the present nor the previous manifest names is removed; so a kill at any moment leaves the one or the other,
and nothing for ever. A reader whose files are gone since it read the manifest reads that again.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue, canonical, parse_canonical
from model_handler.files.locks import SECONDS_WITHOUT_LOCKS, locked
from model_handler.files.regular_files import read_file
from model_handler.files.whole_files import Piece, make_folder, remove_left_behind, write_whole

__all__ = ["LOCK", "MANIFEST", "Generation", "Payload", "is_of_a_generation", "read_generation", "write_generation"]

MANIFEST, LOCK = "manifest.json", ".lock"
Payload = Callable[[], Iterable[Piece]]
_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{32}\.(?:safetensors|skops)")
_WRITING = re.compile(r"\..+\.writing-[0-9a-f]{12}")
_MOST_BYTES = 1 << 30  # of a manifest
_SECONDS = 600.0  # to wait for another writer
_TRIES = 20  # of a reader, each of which took as long as two writers took to finish


@dataclass(frozen=True)
class Generation:
    """What a manifest says, and the bytes of the files that it names, by what they were called before the hash."""

    content: JsonValue
    files: dict[str, bytearray]


def write_generation(folder: Path, content: JsonValue, payloads: Mapping[str, Payload]) -> None:
    """Make these files, and what the manifest says of them, the present generation of a directory.

    Parameters
    ----------
    folder : Path
        The directory; made, with those above it, where it is missing.
    content : value that JSON holds
        What the manifest says besides.
    payloads : mapping of name to function
        By file name, such as ``"arrays.safetensors"``, what gives the bytes of the file in pieces, each time it is
        called the same.

    Raises OSError, naming the file, where one cannot be written: the directory has the generation that it had.
    """
    make_folder(folder)
    with locked(folder / LOCK, seconds=_SECONDS) as is_alone:
        before: set[str] = set()
        with suppress(OSError, ValueError):
            before = _names_of_present(folder)  # they stay, since a reader may be at them
        try:
            entries = {name: _write_payload(folder, name, pieces) for name, pieces in payloads.items()}
            signed = {"content": content, "files": entries}
            whole = {**signed, "sha256": sha256(canonical(signed).encode()).hexdigest()}
            write_whole(folder / MANIFEST, [canonical(whole).encode()])
        finally:  # after a failure too: a part of what was not committed would take room on a disk that is full
            with suppress(OSError, ValueError):
                _remove_all_but(folder, before | _names_of_present(folder), is_alone)


def read_generation(folder: Path) -> Generation:
    """Read the present generation, and verify that it is what was written.

    Raises
    ------
    FileNotFoundError
        If there is no manifest.
    CorruptFileError, UnsafeFileError
        Naming the file that is not what was written, or is no regular file of its own.
    """
    said = bytearray()
    for attempt in range(_TRIES):
        before, said = said, read_file(folder / MANIFEST, most_bytes=_MOST_BYTES, follow_links=False)
        content, entries = _parsed(said, str(folder / MANIFEST))
        try:
            return Generation(content, {name: _read_payload(folder, entry) for name, entry in entries.items()})
        except FileNotFoundError as error:
            if said == before or attempt == _TRIES - 1:  # no writer has been here: it is missing
                raise CorruptFileError(f"{error}, which {folder / MANIFEST} names") from error
    raise AssertionError("the last attempt returns or raises")


def is_of_a_generation(name: str) -> bool:
    """Tell whether a file of this name is one that writers make here."""
    return name in (MANIFEST, LOCK) or bool(_NAME.fullmatch(name)) or bool(_WRITING.fullmatch(name))


def _write_payload(folder: Path, name: str, pieces: Payload) -> dict[str, JsonValue]:
    """Write a file under its name with its hash, and return its entry in the manifest."""
    # The name needs the hash first, and reading the pieces twice needs no second copy of them.
    found, size = sha256(), 0
    for piece in pieces():
        found.update(piece)
        size += len(piece)
    digest = found.hexdigest()
    stem, _, suffix = name.rpartition(".")
    file = f"{stem}-{digest[:32]}.{suffix}"
    if not _NAME.fullmatch(file):
        raise ValueError(f"{name!r} is no name of a file in a generation")
    write_whole(folder / file, pieces())
    return {"file": file, "size": size, "sha256": digest}


def _read_payload(folder: Path, entry: Mapping[str, JsonValue]) -> bytearray:
    path, size = folder / str(entry["file"]), int(entry["size"])
    data = read_file(path, most_bytes=size, follow_links=False)
    if len(data) != size:
        raise CorruptFileError(f"{path} is damaged: it has {len(data):,} bytes, where {size:,} were written")
    if sha256(data).hexdigest() != entry["sha256"]:
        raise CorruptFileError(f"{path} is damaged: it is not what was written")
    return data


def _parsed(data: bytearray, what: str) -> tuple[JsonValue, dict[str, dict[str, JsonValue]]]:
    """Parse a manifest: the content, and the entries of the files by their names before the hash."""
    try:
        whole = parse_canonical(data.decode(), what)
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{what} is damaged: {error}") from error
    if not isinstance(whole, dict) or sorted(whole) != ["content", "files", "sha256"]:
        raise CorruptFileError(f"{what} is damaged: it is no manifest")
    if (
        sha256(canonical({"content": whole["content"], "files": whole["files"]}).encode()).hexdigest()
        != whole["sha256"]
    ):
        raise CorruptFileError(f"{what} is damaged: it is not what was written")
    entries = whole["files"]
    if not isinstance(entries, dict):
        raise CorruptFileError(f"{what} is damaged: it names no files")
    for name, entry in entries.items():
        _check_entry(name, entry, what)
    return whole["content"], entries


def _check_entry(name: str, entry: JsonValue, what: str) -> None:
    if not isinstance(entry, dict) or sorted(entry) != ["file", "sha256", "size"]:
        raise CorruptFileError(f"{what} is damaged: it does not say what {name[:60]!r} is")
    file, size, digest = entry["file"], entry["size"], entry["sha256"]
    # No separators, dots or letters that a system could read in two ways: such a name stays in the directory.
    if not isinstance(file, str) or not _NAME.fullmatch(file):
        raise UnsafeFileError(f"{what} names the file {str(file)[:60]!r}, which is none that is written there")
    if type(size) is not int or size < 0 or not isinstance(digest, str):
        raise CorruptFileError(f"{what} is damaged: {file} has no size or no hash")


def _names_of_present(folder: Path) -> set[str]:
    """Return the file names of the present generation, none where there is none. Raises what reading it raises."""
    if not (folder / MANIFEST).exists():
        return set()
    _, entries = _parsed(read_file(folder / MANIFEST, most_bytes=_MOST_BYTES, follow_links=False), MANIFEST)
    return {str(entry["file"]) for entry in entries.values()}


def _remove_all_but(folder: Path, names: set[str], is_alone: bool) -> None:
    """Remove what other generations wrote; of the last hour, only where the lock says that no other writer is at it."""
    remove_left_behind(folder, "")  # others write files here that belong to no generation, beside ours
    until = time.time() - SECONDS_WITHOUT_LOCKS
    for path in _made_here(folder):
        if path.name not in names:
            with suppress(OSError):
                if is_alone or path.stat().st_mtime < until:
                    path.unlink()


def _made_here(folder: Path) -> Iterator[Path]:
    """Yield the files that generations are made of, but for manifest and lock."""
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            yield path
