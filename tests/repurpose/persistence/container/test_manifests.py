"""Manifests: one text says what is there, and is what was written, expected and signed, or nothing."""

import json
from hashlib import sha256
from typing import Any

import pytest

from benchmarks.attacks.forging import manifest_text
from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import canonical
from repurpose.persistence.container.manifests import (
    Demands,
    Protection,
    check_payload,
    entry_of,
    is_payload,
    parse_manifest,
    text_of_manifest,
)
from repurpose.persistence.container.signatures import signing_key_pair

CONTENT = {"format": 3}
ENTRIES = {"arrays.safetensors": entry_of("arrays.safetensors", [b"ab", b"c"])}
SIGNING, VERIFYING = signing_key_pair()


def text(**given: Any) -> bytes:
    return text_of_manifest(CONTENT, ENTRIES, Protection.by(**given))[0]


def parsed(data: bytes, **given: Any) -> Any:
    return parse_manifest(bytearray(data), "FILE", Demands.by(**given))


def test_an_entry_has_name_size_and_hash() -> None:
    digest = sha256(b"abc").hexdigest()
    assert ENTRIES["arrays.safetensors"] == {
        "file": f"arrays-{digest[:32]}.safetensors",
        "size": 3,
        "sha256": digest,
    }
    assert is_payload(ENTRIES["arrays.safetensors"]["file"])
    with pytest.raises(ValueError, match="no name of a file in a generation"):
        entry_of("../arrays.safetensors", [])


def test_the_hash_is_that_of_the_text_and_is_demanded() -> None:
    data, digest = text_of_manifest(CONTENT, ENTRIES, Protection())
    assert data.decode() == manifest_text(CONTENT, ENTRIES)
    assert digest == sha256(data).hexdigest()
    assert parsed(data, expected_hash=digest) == parsed(data, expected_hash=digest.upper()) == (CONTENT, ENTRIES)
    with pytest.raises(CorruptFileError, match=rf"FILE has the hash {digest[:12]}\.\.\., where 000000000000\.\.\. was"):
        parsed(data, expected_hash="0" * 64)
    with pytest.raises(CorruptFileError, match="FILE has the hash"):  # before anything is parsed
        parsed(b"[" * 100_000, expected_hash=digest)


@pytest.mark.parametrize("name", ["arrays0.safetensors", "arrays.skops", "../arrays.safetensors", "", "a" * 100])
def test_a_file_is_named_once_and_by_what_it_is_called(name: str) -> None:
    entries = {**ENTRIES, name: ENTRIES["arrays.safetensors"]}
    with pytest.raises(UnsafeFileError, match=rf"FILE names the file arrays-\w+\.safetensors as '{name[:60]}', which"):
        parsed(manifest_text(CONTENT, entries).encode())


@pytest.mark.parametrize("wrong", ["", "0" * 63, "0" * 65, "g" * 64, "\u0661" * 64, b"0" * 64, 3])
def test_what_can_be_no_hash_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected_hash must be the 64 hexadecimal digits"):
        Demands.by(expected_hash=wrong)


def test_a_signed_manifest_is_read_with_and_without_the_key() -> None:
    made = text(signing_key=SIGNING)
    assert list(json.loads(made)) == ["content", "files", "signature", "sha256"]
    assert parsed(made) == parsed(made, verify_key=VERIFYING) == (CONTENT, ENTRIES)


def test_a_manifest_that_is_unsigned_changed_or_of_another_is_refused() -> None:
    whole = json.loads(text(signing_key=SIGNING))
    whole.pop("sha256")

    def forged(**changes: Any) -> bytes:
        changed = {**whole, **changes}
        return canonical({**changed, "sha256": sha256(canonical(changed).encode()).hexdigest()}).encode()

    other = json.loads(text(signing_key=signing_key_pair()[0]))["signature"]
    for data, said in (
        (text(), "is not signed"),
        (forged(content={"format": 2}), "is not what was signed"),
        (forged(files={}), "is not what was signed"),
        (forged(signature=other), "is signed for the verify_key"),
        (forged(signature={**other, "verify_key": VERIFYING.hex()}), "is not what was signed"),
    ):
        with pytest.raises(UnsafeFileError, match=f"FILE {said}"):
            parsed(data, verify_key=VERIFYING)
        parsed(data)
    for wrong in (None, {}, "x", {**other, "ed25519": "0"}):
        with pytest.raises(CorruptFileError, match="FILE is damaged: it has no usable signature"):
            parsed(forged(signature=wrong))


def test_any_changed_bit_of_a_signature_is_noticed_without_the_key_too() -> None:
    made = text(signing_key=SIGNING)
    for place in range(len(made)):
        changed = bytearray(made)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="FILE"):
            parsed(changed)


def test_a_file_is_the_one_of_its_entry() -> None:
    check_payload(memoryview(b"abc"), ENTRIES["arrays.safetensors"], "FILE")
    with pytest.raises(CorruptFileError, match="FILE is damaged: it has 2 bytes, where 3 were written"):
        check_payload(bytearray(b"ab"), ENTRIES["arrays.safetensors"], "FILE")
    with pytest.raises(CorruptFileError, match="FILE is damaged: it is not what was written"):
        check_payload(bytearray(b"abd"), ENTRIES["arrays.safetensors"], "FILE")


def test_how_files_are_protected_is_told_without_the_keys() -> None:
    assert str(Protection()) == ""
    protection = Protection.by(encryption_key=b"k" * 32, signing_key=b"s" * 32)
    assert protection.cipher is not None
    assert str(protection) == f", encrypted with the key {protection.cipher.key_id}, signed"
    assert "kkk" not in repr(protection)
    assert "sss" not in repr(protection)
