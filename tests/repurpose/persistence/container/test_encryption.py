"""Encryption: by the documented layout, with no nonce used twice, and without a key nothing is read."""

import random
import struct
import sys
from pathlib import Path

import pytest

from model_handler.errors import CorruptFileError, UnsafeFileError
from repurpose.persistence.container import encryption
from repurpose.persistence.container.encryption import Key, checked_key, cipher_of, new_cipher

KEY, OTHER = bytes(range(32)), bytes(32)
SIZES = (0, 1, 63, 64, 65, 128, 200)  # of files, of which 64 are one chunk


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "_CHUNK", 64)
    monkeypatch.setattr(encryption, "_LOG2_N", 4)


def encrypted(data: bytes, name: str = "a", key: Key | None = None) -> bytearray:
    """The bytes of an encrypted file, made of pieces that fit no chunk."""
    pieces = [data[place : place + 41] for place in range(0, len(data), 41)]
    return bytearray(b"".join(new_cipher(key or checked_key(KEY)).encrypted(pieces, name)))


def decrypted(data: bytearray, name: str = "a", key: Key | None = None) -> bytes:
    cipher = cipher_of(data, key or checked_key(KEY), "FILE")
    assert cipher is not None
    return bytes(cipher.decrypted(bytearray(data), name, "FILE"))


def by_the_documented_layout(data: bytes, name: str, secret: bytes | str, chunk: int) -> bytes:
    """What an encrypted file holds, with nothing but `cryptography`."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    magic, key_id, kind, log2_n, r, p, scrypt_salt, salt = struct.unpack(">16s16sBBBB16s32s", data[:84])
    assert (magic, kind) == (b"repurpose-seal-1", int(isinstance(secret, str)))
    if isinstance(secret, str):
        secret = Scrypt(scrypt_salt, 32, 2**log2_n, r, p).derive(secret.encode())
    assert key_id == HKDF(SHA256(), 16, None, b"repurpose-seal-1 key id").derive(secret)
    aes = AESGCM(HKDF(SHA256(), 32, salt, data[:84] + name.encode()).derive(secret))
    chunks = [data[place : place + chunk + 16] for place in range(84, len(data), chunk + 16)]
    numbered = [(number.to_bytes(11, "big"), part) for number, part in enumerate(chunks)]
    return b"".join(
        aes.decrypt(number + (b"\1" if part is chunks[-1] else b"\0"), part, None) for number, part in numbered
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("secret", [KEY, "a passphrase"])
def test_another_program_can_decrypt_it_by_what_docs_format_says(size: int, secret: bytes | str) -> None:
    data = random.Random(size).randbytes(size)
    key = checked_key(secret)
    made = encrypted(data, "arrays", key)
    assert len(made) == 84 + size + 16 * max(1, -(-size // 64))
    assert by_the_documented_layout(bytes(made), "arrays", secret, 64) == data
    assert decrypted(made, "arrays", checked_key(secret)) == data


def test_chunks_have_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    data = bytes(2**21 + 5)
    assert by_the_documented_layout(bytes(encrypted(data)), "a", KEY, 2**20) == data
    assert decrypted(encrypted(data)) == data
    assert (encryption._LOG2_N, encryption._R, encryption._P) == (17, 8, 1)


@pytest.mark.parametrize("secret", [KEY, "a passphrase"])
def test_any_changed_bit_is_refused(secret: bytes | str) -> None:
    key = checked_key(secret)
    made, rng = encrypted(random.Random(0).randbytes(150), key=key), random.Random(0)
    for place in range(16, len(made)):  # in front of it is what tells that it is encrypted
        changed = bytearray(made)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises((CorruptFileError, UnsafeFileError), match="FILE"):
            decrypted(changed, key=key)


def test_chunks_cut_off_put_elsewhere_or_added_are_refused() -> None:
    made, other = encrypted(bytes(200)), encrypted(bytes(200))
    header, *chunks = (made[:84], made[84:164], made[164:244], made[244:324], made[324:])
    assert decrypted(bytearray(b"".join([header, *chunks]))) == bytes(200)
    for files in (
        [],
        chunks[:1],
        chunks[:3],
        [*chunks[:3], chunks[3][:-1]],
        chunks[1:],
        [chunks[1], chunks[0], *chunks[2:]],
        [*chunks, chunks[3]],
        [*chunks, b"x"],
        [*chunks[:3], other[324:]],
        [other[84:164], *chunks[1:]],
    ):
        with pytest.raises(CorruptFileError, match="FILE is damaged"):
            decrypted(bytearray(b"".join([header, *files])))
    for n_bytes in (16, 52, 83):
        with pytest.raises(CorruptFileError, match="ends within its header"):
            decrypted(made[:n_bytes])


def test_a_file_of_another_name_is_refused() -> None:
    with pytest.raises(CorruptFileError, match="not what was encrypted under this name"):
        decrypted(encrypted(b"secret", "a"), "b")


def test_no_two_files_have_a_key_and_so_a_nonce_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.ciphers import aead

    used: list[tuple[bytes, bytes]] = []

    class Watched:
        def __init__(self, key: bytes) -> None:
            self._key, self._aes = key, WATCHED(key)

        def encrypt(self, nonce: bytes, data: bytes, associated: None) -> bytes:
            used.append((self._key, nonce))
            return self._aes.encrypt(nonce, data, associated)

    WATCHED = aead.AESGCM
    monkeypatch.setattr(aead, "AESGCM", Watched)
    cipher = new_cipher(checked_key(KEY))
    made = [b"".join(cipher.encrypted([bytes(200)], "a")) for _ in range(20)]
    assert len(used) == len({*used}) == 20 * 4
    assert len({*made}) == 20


def test_a_wrong_key_is_told_by_its_id_and_before_anything_is_decrypted() -> None:
    made = encrypted(b"secret")
    ids = {secret: new_cipher(checked_key(secret)).key_id for secret in (KEY, OTHER)}
    assert ids[KEY] == new_cipher(checked_key(KEY)).key_id != ids[OTHER]
    with pytest.raises(UnsafeFileError, match=f"with the key {ids[KEY]}, and not with the given one, {ids[OTHER]}"):
        cipher_of(made, checked_key(OTHER), "FILE")
    with pytest.raises(UnsafeFileError, match=f"FILE is encrypted with the key {ids[KEY]}: load.*encryption_key="):
        cipher_of(made, None, "FILE")
    with pytest.raises(UnsafeFileError, match="is encrypted with a key of bytes, and encryption_key is a passphrase"):
        cipher_of(made, checked_key("secret"), "FILE")
    by_phrase = encrypted(b"secret", key=checked_key("right"))
    with pytest.raises(UnsafeFileError, match=r"with the key \w{32}, and not with the given passphrase"):
        cipher_of(by_phrase, checked_key("wrong"), "FILE")
    with pytest.raises(UnsafeFileError, match="is encrypted with a passphrase, and encryption_key is bytes"):
        cipher_of(by_phrase, checked_key(KEY), "FILE")
    cipher = cipher_of(made, checked_key(KEY), "FILE")
    assert cipher is not None
    with pytest.raises(UnsafeFileError, match="not encrypted with the key of its manifest"):
        cipher.decrypted(by_phrase, "a", "FILE")


def test_what_is_not_encrypted_needs_no_key_and_fits_none() -> None:
    for data in (b"", b"{}", b"repurpose-seal-2" + bytes(100)):
        assert cipher_of(data, None, "FILE") is None
        with pytest.raises(UnsafeFileError, match="FILE is not encrypted, and encryption_key was given"):
            cipher_of(data, checked_key(KEY), "FILE")


@pytest.mark.parametrize("cost", [(18, 8, 1), (255, 8, 1), (17, 9, 1), (17, 255, 255), (4, 8, 2), (0, 8, 1), (4, 0, 1)])
def test_a_file_may_not_ask_for_more_work_than_honest_ones(
    cost: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encrypted(b"secret", key=checked_key("a"))
    made[33:36] = bytes(cost)
    monkeypatch.setattr(encryption, "_stretched", lambda *_: pytest.fail("it was done"))
    with pytest.raises(UnsafeFileError, match=f"FILE asks for scrypt with n = 2\\^{cost[0]}, r = {cost[1]}"):
        cipher_of(made, checked_key("a"), "FILE")


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(31), bytes(33), "", "\ud800", 3, [1], Path("a")])
def test_what_is_no_key_is_refused_and_not_shown(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="encryption_key") as error:
        checked_key(wrong)  # type: ignore[arg-type]
    assert "short" not in str(error.value)
    assert "ud800" not in str(error.value)


def test_nothing_shows_a_key() -> None:
    for secret in (b"k" * 32, "k" * 32):
        key = checked_key(secret)
        cipher = new_cipher(key)
        assert "kkk" not in f"{key!r}{cipher!r}{cipher.key_id}"
        assert "kkk" not in repr(key._ciphers)


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    assert decrypted(encrypted(b"x", key=checked_key("caf\u00e9")), key=checked_key("cafe\u0301")) == b"x"


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encrypted(b"secret")
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    for secret in (KEY, "a passphrase"):
        with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[crypto\]'"):
            new_cipher(checked_key(secret))
    with pytest.raises(UnsafeFileError, match="is encrypted"):
        cipher_of(made, None, "FILE")
