"""Signatures of manifests by Ed25519 (RFC 8032): who has the signing key wrote this, and it is as it was written.

Hashes find damage; who wants to deceive can compute them too. A signature cannot be made without the key. It is over
the manifest, which has the hash of every other file.
"""

from typing import TYPE_CHECKING

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.persistence.container.encryption import missing_package

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["check_signature", "checked_signing_key", "checked_verify_key", "signature", "signing_key_pair"]

_CONTEXT = b"repurpose manifest\n"  # a key that signs other things too signs none that could be taken for a manifest
_KEY_BYTES = 32


def signing_key_pair() -> tuple[bytes, bytes]:
    """Make a new key for signing, and the one that verifies what it signs.

    Returns
    -------
    signing_key : bytes
        32 bytes, to be kept secret: ``save_repurposer(path, signing_key=...)``.
    verify_key : bytes
        32 bytes, for everybody who is to trust it: ``load(path, verify_key=...)``.

    Raises ImportError where the package cryptography is missing: ``pip install 'repurpose-torch[crypto]'``.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer, load, signing_key_pair
    >>> signing_key, verify_key = signing_key_pair()
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LrRepurposer(network).repurpose(make_blobs(30, random_state=8))
    >>> manifest_hash = repurposer.save_repurposer("my-repurposer.zip", signing_key=signing_key)
    >>> load("my-repurposer.zip", network, verify_key=verify_key).classes_
    array([0, 1, 2])
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise missing_package(error) from error
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def checked_signing_key(given: "bytes | Ed25519PrivateKey") -> "Ed25519PrivateKey":
    """Return the key to sign with. Raises TypeError or ValueError for anything else, without showing it."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise missing_package(error) from error
    if isinstance(given, Ed25519PrivateKey):
        return given
    return Ed25519PrivateKey.from_private_bytes(_checked_bytes(given, "signing_key", "Ed25519PrivateKey"))


def checked_verify_key(given: "bytes | Ed25519PublicKey") -> "Ed25519PublicKey":
    """Return the key to verify with. Raises TypeError or ValueError for anything else."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise missing_package(error) from error
    if isinstance(given, Ed25519PublicKey):
        return given
    return Ed25519PublicKey.from_public_bytes(_checked_bytes(given, "verify_key", "Ed25519PublicKey"))


def signature(key: "Ed25519PrivateKey", text: str) -> dict[str, JsonValue]:
    """Sign a text: the public key and the signature, both in hexadecimal digits."""
    public = key.public_key().public_bytes_raw()
    return {"verify_key": public.hex(), "ed25519": key.sign(_CONTEXT + text.encode()).hex()}


def check_signature(key: "Ed25519PublicKey", signed: JsonValue, text: str, what: str) -> None:
    """Raise UnsafeFileError unless `signed`, which `what` has as its signature, is this key's of the text."""
    from cryptography.exceptions import InvalidSignature

    wanted = key.public_bytes_raw().hex()
    if signed is None:
        raise UnsafeFileError(f"{what} is not signed, and verify_key was given: anybody could have written it")
    check_form(signed, what)
    if signed["verify_key"] != wanted:
        raise UnsafeFileError(f"{what} is signed for the verify_key {signed['verify_key']}, and not for {wanted}")
    try:
        key.verify(bytes.fromhex(signed["ed25519"]), _CONTEXT + text.encode())
    except InvalidSignature:
        raise UnsafeFileError(f"{what} is not what was signed for the verify_key {wanted}: it was changed") from None


def check_form(signed: JsonValue, what: str) -> None:
    """Raise CorruptFileError unless a manifest can have this as its signature."""
    digits = set("0123456789abcdef")
    if (
        not isinstance(signed, dict)
        or list(signed) != ["verify_key", "ed25519"]
        or not all(isinstance(text, str) and set(text) <= digits for text in signed.values())
        or [len(text) for text in signed.values()] != [64, 128]
    ):
        raise CorruptFileError(f"{what} is damaged: it has no usable signature")


def _checked_bytes(given: object, name: str, kind: str) -> bytes:
    if not isinstance(given, (bytes, bytearray)):
        raise TypeError(f"{name} must be {_KEY_BYTES} bytes or an {kind}, got a value of type {type(given).__name__}")
    if len(given) != _KEY_BYTES:
        raise ValueError(
            f"{name} must have {_KEY_BYTES} bytes, got {len(given)}; repurpose.signing_key_pair() makes a pair of keys"
        )
    return bytes(given)
