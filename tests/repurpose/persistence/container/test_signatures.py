"""Signatures: only who has the key can make them, and only of what was signed."""

import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from model_handler.errors import CorruptFileError, UnsafeFileError
from repurpose.persistence.container.signatures import (
    check_form,
    check_signature,
    checked_signing_key,
    checked_verify_key,
    signature,
    signing_key_pair,
)

SEED = bytes(range(32))


def test_another_program_can_verify_it_by_what_docs_format_says() -> None:
    made = signature(checked_signing_key(SEED), "text")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(made["verify_key"]))
    public.verify(bytes.fromhex(made["ed25519"]), b"repurpose manifest\ntext")
    assert public == Ed25519PrivateKey.from_private_bytes(SEED).public_key()


def test_a_pair_of_keys_fits_each_other_and_no_other_pair() -> None:
    (signing, verifying), (_, other) = signing_key_pair(), signing_key_pair()
    assert (len(signing), len(verifying)) == (32, 32)
    made = signature(checked_signing_key(signing), "text")
    check_signature(checked_verify_key(verifying), made, "text", "FILE")
    with pytest.raises(UnsafeFileError, match=f"FILE is signed for the verify_key {verifying.hex()}, and not for "):
        check_signature(checked_verify_key(other), made, "text", "FILE")
    with pytest.raises(UnsafeFileError, match="FILE is not what was signed"):
        check_signature(checked_verify_key(verifying), made, "texT", "FILE")
    with pytest.raises(UnsafeFileError, match="FILE is not what was signed"):  # who says that it is somebody else's
        check_signature(checked_verify_key(other), {**made, "verify_key": other.hex()}, "text", "FILE")
    with pytest.raises(UnsafeFileError, match="FILE is not signed, and verify_key was given"):
        check_signature(checked_verify_key(verifying), None, "text", "FILE")


def test_keys_may_be_those_of_the_package() -> None:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    made = signature(checked_signing_key(private), "text")
    assert made == signature(checked_signing_key(SEED), "text")
    check_signature(checked_verify_key(private.public_key()), made, "text", "FILE")


@pytest.mark.parametrize("wrong", [b"", b"secret", bytes(64), "ab" * 32, 3, None])
def test_what_is_no_key_is_refused_and_not_shown(wrong: object) -> None:
    for check, name in ((checked_signing_key, "signing_key"), (checked_verify_key, "verify_key")):
        with pytest.raises((TypeError, ValueError), match=f"{name} must") as error:
            check(wrong)  # type: ignore[operator]
        assert "secret" not in str(error.value)


def test_a_key_of_the_other_kind_is_refused() -> None:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    with pytest.raises(TypeError, match="verify_key must be 32 bytes or an Ed25519PublicKey"):
        checked_verify_key(private)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="signing_key must be 32 bytes or an Ed25519PrivateKey"):
        checked_signing_key(private.public_key())  # type: ignore[arg-type]


def test_a_signature_has_one_form() -> None:
    good = signature(checked_signing_key(SEED), "text")
    check_form(good, "FILE")
    for wrong in (
        None,
        [],
        {},
        {"ed25519": good["ed25519"], "verify_key": good["verify_key"]},
        {**good, "more": ""},
        {**good, "ed25519": good["ed25519"].upper()},
        {**good, "ed25519": good["ed25519"][:-1]},
        {**good, "ed25519": "\u0661" * 128},
        {**good, "verify_key": 1},
        {**good, "verify_key": "x" * 64},
    ):
        with pytest.raises(CorruptFileError, match="FILE is damaged: it has no usable signature"):
            check_form(wrong, "FILE")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    for call in (signing_key_pair, lambda: checked_signing_key(SEED), lambda: checked_verify_key(SEED)):
        with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[crypto\]'"):
            call()
