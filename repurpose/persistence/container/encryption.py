"""Encryption of files: AES-256-GCM in chunks, each of which knows its number, its file and whether it is the last.

The construction is STREAM of Hoang, Reyhanitabar, Rogaway and Vizár (2015), https://eprint.iacr.org/2015/189: chunks
that are changed, left out, put elsewhere or added are noticed. Each file has a key of its own, derived from a random
salt, so that no nonce is used twice. docs/format.md has the layout; `cryptography` does all of the computing.
"""

import struct
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import NamedTuple

from model_handler.errors import CorruptFileError, UnsafeFileError, with_fix
from model_handler.files.whole_files import Piece
from repurpose.advice import IN_PYTHON
from repurpose.version import DISTRIBUTION

__all__ = ["MAGIC", "OF_LOAD", "Cipher", "Key", "KeyFix", "checked_key", "cipher_of", "missing_package", "new_cipher"]

MAGIC = b"repurpose-seal-1"
_ID_BYTES, _SALT_BYTES = 16, 32
_PARAMETERS = struct.Struct(">BBBB16s")  # kind of key; log2(n), r, p and salt of scrypt
_BEGINNING_BYTES = len(MAGIC) + _ID_BYTES + _PARAMETERS.size
_HEADER_BYTES = _BEGINNING_BYTES + _SALT_BYTES
_CHUNK, _TAG = 1 << 20, 16  # bytes, before encryption and added by it
_BY_KEY, _BY_PASSPHRASE = 0, 1
_KEY_BYTES = 32
_LOG2_N, _R, _P = 17, 8, 1  # of scrypt: 128 MiB and about a quarter of a second
_MOST_LOG2_N = 17  # that a file may ask for


class KeyFix(NamedTuple):
    """How a missing key is given: by which call in Python, and how on the command line."""

    python: str
    shell: str


OF_LOAD = KeyFix("load(path, encryption_key=...)", IN_PYTHON)


@dataclass(frozen=True)
class Key:
    """What a user gave to encrypt or decrypt with: 32 bytes, or the bytes of a passphrase.

    It remembers the ciphers that came of it, by their parameters, since scrypt takes long by intent.
    """

    secret: bytes = field(repr=False)
    is_passphrase: bool
    _ciphers: "dict[bytes, Cipher]" = field(default_factory=dict, repr=False, compare=False)

    def cipher(self, kind: int, log2_n: int, r: int, p: int, salt: bytes) -> "Cipher":
        """Return the cipher by these parameters, of scrypt where this is a passphrase."""
        wanted = _PARAMETERS.pack(kind, log2_n, r, p, salt)
        if wanted not in self._ciphers:
            secret = _stretched(self.secret, salt, log2_n, r, p) if self.is_passphrase else self.secret
            key_id = _derived(secret, None, MAGIC + b" key id", _ID_BYTES)
            self._ciphers[wanted] = Cipher(secret, MAGIC + key_id + wanted)
        return self._ciphers[wanted]


@dataclass(frozen=True)
class Cipher:
    """A key at work: it encrypts files, and decrypts those that were encrypted with it.

    Attributes
    ----------
    beginning : bytes
        Of each of its files: says which key it is, and how that comes of a passphrase.
    """

    _secret: bytes = field(repr=False)
    beginning: bytes

    @property
    def key_id(self) -> str:
        """What tells the key from others and does not give it away: 32 hexadecimal digits."""
        return _id_in(self.beginning)

    def encrypted(self, pieces: Iterable[Piece], name: str) -> Iterator[Piece]:
        """Yield the bytes of the file `name` that has these pieces when decrypted; a new salt each time."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        header = self.beginning + token_bytes(_SALT_BYTES)
        yield header
        aes = AESGCM(_file_key(self._secret, header, name))
        for number, (chunk, is_last) in enumerate(_chunks(pieces)):
            yield aes.encrypt(_nonce(number, is_last), chunk, None)

    def decrypted(self, data: bytearray, name: str, what: str) -> memoryview:
        """Decrypt the bytes of the file `name` in place, and return the part that has the result.

        Raises UnsafeFileError where another key encrypted it, CorruptFileError for any other change; `what` names the
        file in errors.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not data.startswith(self.beginning):
            raise UnsafeFileError(f"{what} is not encrypted with the key of its manifest, {self.key_id}")
        view = memoryview(data)
        aes = AESGCM(_file_key(self._secret, bytes(view[:_HEADER_BYTES]), name))
        n_done, step = 0, _CHUNK + _TAG
        for number, begin in enumerate(range(_HEADER_BYTES, max(len(data), _HEADER_BYTES + 1), step)):
            try:
                chunk = aes.decrypt(_nonce(number, begin + step >= len(data)), view[begin : begin + step], None)
            except InvalidTag:
                raise CorruptFileError(
                    f"{what} is damaged: byte {begin:,} and those behind it are not what was encrypted under this name"
                ) from None
            view[n_done : n_done + len(chunk)] = chunk  # never beyond the chunk that it was, which had a tag besides
            n_done += len(chunk)
        return view[:n_done]


def checked_key(given: bytes | bytearray | str) -> Key:
    """Return the key, if it is one. Raises TypeError or ValueError, which tell the size of what was given at most."""
    if isinstance(given, str):
        try:  # composed, since systems differ in how a keyboard's letters arrive
            secret = unicodedata.normalize("NFC", given).encode()
        except UnicodeEncodeError:
            raise ValueError("encryption_key is a text that is not wholly of letters: it has lone surrogates") from None
        if not secret:
            raise ValueError("encryption_key is an empty text; give a passphrase that nobody guesses")
        return Key(secret, is_passphrase=True)
    if not isinstance(given, (bytes, bytearray)):
        raise TypeError(
            f"encryption_key must be {_KEY_BYTES} bytes or a passphrase, got a value of type {type(given).__name__}"
        )
    if len(given) != _KEY_BYTES:
        raise ValueError(
            f"encryption_key must have {_KEY_BYTES} bytes, got {len(given)}; secrets.token_bytes({_KEY_BYTES}) makes "
            "one, and a text is taken for a passphrase"
        )
    return Key(bytes(given), is_passphrase=False)


def new_cipher(key: Key) -> Cipher:
    """Return what encrypts with this key; of a passphrase, with a salt of its own."""
    if key.is_passphrase:
        return key.cipher(_BY_PASSPHRASE, _LOG2_N, _R, _P, token_bytes(16))
    return key.cipher(_BY_KEY, 0, 0, 0, bytes(16))


def cipher_of(data: bytes | bytearray, key: Key | None, what: str, fix: KeyFix = OF_LOAD) -> Cipher | None:
    """Return what decrypts a file with these bytes: None for one that is not encrypted and of which no key was given.

    Where a key is missing, `fix` says how it is given.

    Raises
    ------
    UnsafeFileError
        Where a key was given and the file is not encrypted, or no key or another one and it is; or where it asks for
        more work than it may. `what` names the file.
    CorruptFileError
        Where its header cannot be read.
    """
    if not data.startswith(MAGIC):
        if key is None:
            return None
        raise UnsafeFileError(f"{what} is not encrypted, and encryption_key was given: anybody could have written it")
    if len(data) < _HEADER_BYTES:
        raise CorruptFileError(f"{what} is damaged: it ends within its header")
    key_id = _id_in(data)
    if key is None:
        raise with_fix(
            UnsafeFileError,
            f"{what} is encrypted with the key {key_id}",
            python=f"{fix.python} with that key",
            shell=fix.shell,
            between=": ",
        )
    kind, log2_n, r, p, salt = _PARAMETERS.unpack_from(data, len(MAGIC) + _ID_BYTES)
    if (kind == _BY_PASSPHRASE) != key.is_passphrase:
        wanted, got = ("a passphrase", "bytes") if kind == _BY_PASSPHRASE else ("a key of bytes", "a passphrase")
        raise UnsafeFileError(f"{what} is encrypted with {wanted}, and encryption_key is {got}")
    if key.is_passphrase and not (1 <= log2_n <= _MOST_LOG2_N and 1 <= r <= _R and p == _P):
        raise UnsafeFileError(
            f"{what} asks for scrypt with n = 2^{log2_n}, r = {r}, p = {p}, where n = 2^{_MOST_LOG2_N}, r = {_R}, "
            f"p = {_P} are the most"
        )
    cipher = key.cipher(kind, log2_n, r, p, salt)
    if not data.startswith(cipher.beginning):
        given = "passphrase" if key.is_passphrase else f"one, {cipher.key_id}"
        raise UnsafeFileError(f"{what} is encrypted with the key {key_id}, and not with the given {given}")
    return cipher


def missing_package(error: ImportError) -> ImportError:
    """Return the error that says what to install."""
    return ImportError(
        f"encryption and signatures need the package cryptography: pip install '{DISTRIBUTION}[crypto]' ({error})"
    )


def _id_in(data: bytes | bytearray) -> str:
    return data[len(MAGIC) : len(MAGIC) + _ID_BYTES].hex()


def _file_key(secret: bytes, header: bytes, name: str) -> bytes:
    """Derive the key of a file; it is another one where the name or anything in the header is."""
    return _derived(secret, header[_BEGINNING_BYTES:], header + name.encode(), _KEY_BYTES)


def _derived(secret: bytes, salt: bytes | None, info: bytes, n_bytes: int) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise missing_package(error) from error
    return HKDF(SHA256(), n_bytes, salt, info).derive(secret)


def _stretched(passphrase: bytes, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    try:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError as error:
        raise missing_package(error) from error
    return Scrypt(salt, _KEY_BYTES, 1 << log2_n, r, p).derive(passphrase)


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _chunks(pieces: Iterable[Piece]) -> Iterator[tuple[bytearray, bool]]:
    """Yield the bytes of the pieces in chunks of one size, and with each whether it is the last, which may be shorter.

    Without any bytes, the last is empty.
    """
    chunk = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            if len(chunk) == _CHUNK:  # another one follows, so it is not the last
                yield chunk, False
                chunk = bytearray()
            taken = rest[: _CHUNK - len(chunk)]
            chunk += taken
            rest = rest[len(taken) :]
    yield chunk, True
