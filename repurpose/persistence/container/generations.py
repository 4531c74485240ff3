"""Atomic updates of several files in a directory: a reader finds the old generation or the new one, whole.

`manifest.json` names the files of the present generation, each with its size and SHA-256, and has a SHA-256 of its own
text. The other files carry their hash (encrypted, digits drawn by chance) in their names, so that no generation
overwrites another's; they are written and synced first, and one atomic renaming of the manifest commits. Writers hold
one lock of the system, under which what neither the present nor the previous manifest names is removed; so a kill at
any moment leaves the one or the other, and nothing for ever. A reader whose files are gone since it read the manifest
reads that again.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from model_handler.errors import CorruptFileError
from model_handler.files.canonical_json import JsonValue
from model_handler.files.locks import SECONDS_WITHOUT_LOCKS, locked
from model_handler.files.regular_files import read_file
from model_handler.files.whole_files import Piece, is_being_written, make_folder, remove_left_behind, write_whole
from repurpose.persistence.container.encryption import Cipher, cipher_of
from repurpose.persistence.container.manifests import (
    CARD,
    MANIFEST,
    Content,
    Demands,
    Entry,
    Generation,
    Payload,
    Protection,
    check_payload,
    entry_of,
    is_payload,
    parse_manifest,
    payload_name,
    text_of_manifest,
)

__all__ = [
    *("LOCK", "MANIFEST", "is_of_a_generation", "read_generation", "remove_earlier_generations", "write_generation"),
]

LOCK = ".lock"
_MOST_BYTES = 1 << 30  # of a manifest
_SECONDS = 600.0  # to wait for another writer
_TRIES = 20  # of a reader, each of which took as long as two writers took to finish
_UNPROTECTED = Protection()
_NO_DEMANDS = Demands()


def write_generation(
    folder: Path,
    content: JsonValue,
    payloads: Mapping[str, Payload],
    card: bytes | None = None,
    protection: Protection = _UNPROTECTED,
) -> str:
    """Write these files, and the manifest that says this of them, as the present generation of a directory.

    Parameters
    ----------
    folder : Path
        The directory; made, with those above it, where it is missing.
    content : value that JSON holds
        What the manifest says besides.
    payloads : mapping of name to function
        By file name, such as ``"arrays.safetensors"``, what gives the bytes of the file in pieces, each time it is
        called the same.
    card : bytes, optional
        A text for people, which no reader needs.
    protection : Protection, optional
        By default the files are neither encrypted nor signed.

    Returns the SHA-256 of the manifest, before any encryption. Raises OSError, naming the file, where one cannot be
    written: the directory has the generation that it had.
    """
    make_folder(folder)
    cipher, demands = protection.cipher, Demands(protection.key)
    with locked(folder / LOCK, seconds=_SECONDS) as is_alone:
        before: set[str] = set()
        # They stay, since a reader may be at them; not so those that another key encrypts, or none where one does now.
        with suppress(OSError, ValueError):
            before = _names_of_present(folder, demands)
        try:
            entries = {name: _write_payload(folder, name, pieces, cipher) for name, pieces in payloads.items()}
            text, digest = text_of_manifest(content, entries, protection)
            _write(folder, MANIFEST, text, cipher)
            if card is not None:  # after the commit, since it is not part of what is committed
                _write(folder, CARD, card, cipher)
        finally:  # after a failure too: a part of what was not committed would take room on a disk that is full
            with suppress(OSError, ValueError):
                _remove_all_but(folder, before | _names_of_present(folder, demands), is_alone)
    return digest


def read_generation(folder: Path, demands: Demands = _NO_DEMANDS) -> Generation:
    """Read the present generation, and verify that it is what was written.

    Raises
    ------
    FileNotFoundError
        If there is no manifest.
    CorruptFileError, UnsafeFileError
        Naming the file that is not what was written, is no regular file of its own, or is not as demanded.
    """
    said = bytearray()
    for attempt in range(_TRIES):
        before, said = said, _read_manifest(folder)
        content, entries, cipher, digest = _opened(bytearray(said), str(folder / MANIFEST), demands)
        try:
            files = {name: _read_payload(folder, entry, cipher) for name, entry in entries.items()}
            return Generation(content, files, digest)
        except FileNotFoundError as error:
            if said == before or attempt == _TRIES - 1:  # no writer has been here: it is missing
                raise CorruptFileError(f"{error}, which {folder / MANIFEST} names") from error
    raise AssertionError("the last attempt returns or raises")


def remove_earlier_generations(folder: Path, protection: Protection = _UNPROTECTED) -> None:
    """Remove the generation before the present one too, which may hold what is not to be handed on with it.

    Readers that are at it then fail. Raises OSError, naming the file, for one that cannot be removed.
    """
    with locked(folder / LOCK, seconds=_SECONDS):
        names = _names_of_present(folder, Demands(protection.key))
        for path in _made_here(folder):
            if path.name not in names:
                path.unlink(missing_ok=True)


def is_of_a_generation(name: str) -> bool:
    """Tell whether a file of this name is one that writers make here."""
    return name in (MANIFEST, LOCK) or is_payload(name) or is_being_written(name)


def _write(folder: Path, name: str, text: bytes, cipher: Cipher | None) -> None:
    # A link in a directory from elsewhere would have a file of the user's overwritten.
    write_whole(folder / name, [text] if cipher is None else cipher.encrypted([text], name), follow_links=False)


def _write_payload(folder: Path, name: str, pieces: Payload, cipher: Cipher | None) -> Entry:
    """Write a file under a name that no other one has, and return its entry in the manifest."""
    if cipher is None:
        # The name needs the hash first, and reading the pieces twice needs no second copy of them.
        entry = entry_of(name, pieces())
        write_whole(folder / str(entry["file"]), pieces(), follow_links=False)
        return entry
    # Encryption needs the name first. And pieces that somebody changed meanwhile must not be encrypted twice alike.
    file, found, size = payload_name(name, token_hex(16)), sha256(), 0

    def encrypted() -> Iterator[Piece]:
        nonlocal size
        for piece in cipher.encrypted(pieces(), file):
            found.update(piece)
            size += len(piece)
            yield piece

    write_whole(folder / file, encrypted(), follow_links=False)
    return {"file": file, "size": size, "sha256": found.hexdigest()}


def _read_manifest(folder: Path) -> bytearray:
    return read_file(folder / MANIFEST, most_bytes=_MOST_BYTES, follow_links=False)


def _opened(data: bytearray, what: str, demands: Demands) -> tuple[JsonValue, dict[str, Entry], Cipher | None, str]:
    """Parse a manifest, which is decrypted in place: its content, its entries, what decrypts the rest, its SHA-256."""
    cipher = cipher_of(data, demands.key, what, demands.key_fix)
    text = data if cipher is None else cipher.decrypted(data, MANIFEST, what)
    return *parse_manifest(text, what, demands), cipher, sha256(text).hexdigest()


def _read_payload(folder: Path, entry: Entry, cipher: Cipher | None) -> Content:
    path = folder / str(entry["file"])
    data = read_file(path, most_bytes=int(entry["size"]), follow_links=False)
    check_payload(data, entry, str(path))
    return data if cipher is None else cipher.decrypted(data, path.name, str(path))


def _names_of_present(folder: Path, demands: Demands) -> set[str]:
    """Return the file names of the present generation, none where there is none. Raises what reading it raises."""
    if not (folder / MANIFEST).exists():
        return set()
    _, entries, _, _ = _opened(_read_manifest(folder), MANIFEST, demands)
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
        if is_payload(path.name):
            yield path
