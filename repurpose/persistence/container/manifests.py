"""Manifests: what a saved repurposer is, and the name, size and hash of each of its files, in one text.

The text vouches for itself by a hash of its own, and for who wrote it by a signature where it has one. Where the files
are is not told here: `generations` keeps them in a directory, `archives` in one zip file.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue, canonical, parse_with_own_hash, with_own_hash
from model_handler.files.whole_files import Piece
from repurpose.persistence.container.encryption import OF_LOAD, Cipher, Key, KeyFix, checked_key, new_cipher
from repurpose.persistence.container.signatures import (
    check_form,
    check_signature,
    checked_signing_key,
    checked_verify_key,
    signature,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "CARD",
    "MANIFEST",
    "Content",
    "Demands",
    "Entry",
    "Generation",
    "Payload",
    "Protection",
    "check_payload",
    "entry_of",
    "is_payload",
    "parse_manifest",
    "payload_name",
    "text_of_manifest",
]

MANIFEST, CARD = "manifest.json", "README.md"
Payload = Callable[[], Iterable[Piece]]
Entry = dict[str, JsonValue]  # file, size and sha256
Content = bytearray | memoryview
_NAME = re.compile(r"([a-z][a-z0-9_]*)-[0-9a-f]{32}(\.(?:safetensors|skops))")
_HASH = re.compile(r"[0-9a-fA-F]{64}")  # some programs print it in capitals


@dataclass(frozen=True)
class Generation:
    """What a manifest says, and the bytes of the files that it names, by what they were called before the hash.

    `digest` is the SHA-256 of the manifest, in hexadecimal.
    """

    content: JsonValue
    files: dict[str, Content]
    digest: str


@dataclass(frozen=True)
class Protection:
    """How files are written: encrypted where there is a cipher, signed where there is a signing key."""

    key: Key | None = None
    cipher: Cipher | None = None
    signing_key: "Ed25519PrivateKey | None" = None

    @classmethod
    def by(
        cls, encryption_key: bytes | str | None = None, signing_key: "bytes | Ed25519PrivateKey | None" = None
    ) -> "Protection":
        """Return the protection by what a user gave. Raises TypeError, ValueError or ImportError."""
        signing = None if signing_key is None else checked_signing_key(signing_key)
        key = None if encryption_key is None else checked_key(encryption_key)
        return cls(key, None if key is None else new_cipher(key), signing)

    def __str__(self) -> str:
        encrypted = f", encrypted with the key {self.cipher.key_id}" if self.cipher else ""
        return f"{encrypted}{', signed' if self.signing_key else ''}"


@dataclass(frozen=True)
class Demands:
    """What files must be before anything in them is believed: encrypted with a key, of one hash, signed.

    `key_fix` is no demand: it says how a key that is missing is given.
    """

    key: Key | None = None
    expected_hash: str | None = None
    verify_key: "Ed25519PublicKey | None" = None
    key_fix: KeyFix = field(default=OF_LOAD, compare=False)

    @classmethod
    def by(
        cls,
        encryption_key: bytes | str | None = None,
        expected_hash: str | None = None,
        verify_key: "bytes | Ed25519PublicKey | None" = None,
        key_fix: KeyFix = OF_LOAD,
    ) -> "Demands":
        """Return the demands by what a user gave. Raises TypeError, ValueError or ImportError."""
        if expected_hash is not None and not (isinstance(expected_hash, str) and _HASH.fullmatch(expected_hash)):
            raise ValueError(
                "expected_hash must be the 64 hexadecimal digits that writing the file returned, got "
                f"{str(expected_hash)[:80]!r}"
            )
        return cls(
            None if encryption_key is None else checked_key(encryption_key),
            None if expected_hash is None else expected_hash.lower(),
            None if verify_key is None else checked_verify_key(verify_key),
            key_fix,
        )


def entry_of(name: str, pieces: Iterable[Piece]) -> Entry:
    """Return the entry of a file that is called by its hash, such as ``"arrays-HASH.safetensors"``."""
    found, size = sha256(), 0
    for piece in pieces:
        found.update(piece)
        size += len(piece)
    digest = found.hexdigest()
    return {"file": payload_name(name, digest), "size": size, "sha256": digest}


def payload_name(name: str, digits: str) -> str:
    """Return the name of a file, such as ``"arrays.safetensors"``, with hexadecimal digits that no other one has."""
    stem, _, suffix = name.rpartition(".")
    file = f"{stem}-{digits[:32]}.{suffix}"
    if not is_payload(file):
        raise ValueError(f"{name!r} is no name of a file in a generation")
    return file


def is_payload(name: str) -> bool:
    """Tell whether a manifest can name a file of this name.

    It has no separators, dots or letters that a system could read in two ways, so it stays in its directory.
    """
    return bool(_NAME.fullmatch(name))


def text_of_manifest(content: JsonValue, entries: Mapping[str, Entry], protection: Protection) -> tuple[bytes, str]:
    """Return the manifest that says this of these files, signed where there is a key for it, and its SHA-256."""
    whole: dict[str, JsonValue] = {"content": content, "files": entries}
    if protection.signing_key is not None:
        whole["signature"] = signature(protection.signing_key, canonical(whole))
    text = with_own_hash(whole).encode()
    return text, sha256(text).hexdigest()


def parse_manifest(data: Content, what: str, demands: Demands) -> tuple[JsonValue, dict[str, Entry]]:
    """Parse a manifest: its content, and the entries of the files by their names before the hash.

    Raises CorruptFileError for a text that is not what was written, or not the one of the expected hash, and
    UnsafeFileError for one that is not signed as demanded or names files that none has; `what` names the file.
    """
    _check_hash(data, what, demands.expected_hash)
    whole = parse_with_own_hash(data, what)
    if list(whole) not in (["content", "files"], ["content", "files", "signature"]):
        raise CorruptFileError(f"{what} is damaged: it is no manifest")
    if "signature" in whole:
        check_form(whole["signature"], what)
    if demands.verify_key is not None:
        signed = canonical({"content": whole["content"], "files": whole["files"]})
        check_signature(demands.verify_key, whole.get("signature"), signed, what)
    entries = whole["files"]
    if not isinstance(entries, dict):
        raise CorruptFileError(f"{what} is damaged: it names no files")
    for name, entry in entries.items():
        _check_entry(name, entry, what)
    return whole["content"], entries


def check_payload(data: Content, entry: Entry, what: str) -> None:
    """Raise CorruptFileError unless a file has the size and the hash of its entry; `what` names it."""
    if len(data) != entry["size"]:
        raise CorruptFileError(f"{what} is damaged: it has {len(data):,} bytes, where {entry['size']:,} were written")
    if sha256(data).hexdigest() != entry["sha256"]:
        raise CorruptFileError(f"{what} is damaged: it is not what was written")


def _check_hash(data: Content, what: str, expected: str | None) -> None:
    if expected is not None and (found := sha256(data).hexdigest()) != expected:
        raise CorruptFileError(f"{what} has the hash {found[:12]}..., where {expected[:12]}... was expected")


def _check_entry(name: str, entry: JsonValue, what: str) -> None:
    if not isinstance(entry, dict) or sorted(entry) != ["file", "sha256", "size"]:
        raise CorruptFileError(f"{what} is damaged: it does not say what {name[:60]!r} is")
    file, size, digest = entry["file"], entry["size"], entry["sha256"]
    if not isinstance(file, str) or not is_payload(file):
        raise UnsafeFileError(f"{what} names the file {str(file)[:60]!r}, which is none that is written there")
    # So no file is named, read and kept in memory twice.
    if name != _NAME.sub(r"\1\2", file):
        raise UnsafeFileError(f"{what} names the file {file} as {name[:60]!r}, which it is not called")
    if type(size) is not int or size < 0 or not isinstance(digest, str):
        raise CorruptFileError(f"{what} is damaged: {file} has no size or no hash")
