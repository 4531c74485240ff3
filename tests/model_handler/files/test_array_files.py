"""Array files against safetensors' own reader and writer, and with every kind of damage."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_handler.errors import CorruptFileError
from model_handler.files.array_files import array_digest, read_arrays, write_arrays

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def arrays() -> dict[str, np.ndarray]:
    made = {dtype: np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES}
    return {
        **made,
        "none": np.zeros((0, 4), np.float32),
        "one": np.array(3.5),
        "é.0/../x": np.asfortranarray(made["f4"]),
    }


def same(first: Any, second: Any) -> bool:
    return sorted(first) == sorted(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def raw(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file of this header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_reads_what_is_written_here(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", arrays(), None)
    assert same(load_file(tmp_path / "a"), arrays())


def test_what_safetensors_writes_is_read_here(tmp_path: Path) -> None:
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays().items()}
    save_file(contiguous, tmp_path / "a", {"note": "text"})
    found = read_arrays(tmp_path / "a")
    assert same(found.arrays, arrays())
    assert found.notes == {"note": "text"}
    assert found.content is None


@pytest.mark.parametrize("content", [None, {"b": [1, 2.5, "é\udc80"], "a": {"x": True}}, [], "text"])
def test_arrays_and_content_come_back(tmp_path: Path, content: Any) -> None:
    write_arrays(tmp_path / "a", arrays(), content)
    found = read_arrays(tmp_path / "a")
    assert same(found.arrays, arrays())
    assert found.content == content
    found.arrays["f4"][0] = 7  # the memory is the caller's


def test_numbers_of_another_byte_order_are_the_same_numbers(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", {"x": np.arange(3, dtype=">f4")}, None)
    assert read_arrays(tmp_path / "a").arrays["x"].tolist() == [0, 1, 2]


def test_an_array_without_a_place_in_the_format_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for array in (np.array(["text"]), np.array([1j]), np.array([object()])):
        with pytest.raises(TypeError, match=r"the array 'x' is of dtype .*, which has no place in a safetensors file"):
            write_arrays(tmp_path / "a", {"x": array}, None)
    assert not list(tmp_path.iterdir())


def test_any_changed_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", {"x": np.arange(5, dtype="f4"), "y": np.array([True])}, {"names": ["b", "c"]})
    data = (tmp_path / "a").read_bytes()
    before = read_arrays(tmp_path / "a")
    rng = random.Random(0)
    accepted = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        (tmp_path / "b").write_bytes(changed)
        try:
            found = read_arrays(tmp_path / "b")
        except CorruptFileError:
            continue
        accepted += 1  # a blank behind the header may have become another
        assert same(found.arrays, before.arrays)
        assert found.content == before.content
    assert accepted <= 8


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 40, -1, -4])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, n_bytes: int) -> None:
    write_arrays(tmp_path / "a", arrays(), {})
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:n_bytes])
    with pytest.raises(CorruptFileError, match=r"b (is|has|was)"):
        read_arrays(tmp_path / "b")


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
WRONG: dict[str, tuple[Any, bytes]] = {
    "bytes behind the end": ({"x": ENTRY}, bytes(9)),
    "a gap between arrays": ({"x": ENTRY, "y": {**ENTRY, "data_offsets": [12, 20]}}, bytes(20)),
    "arrays in one place": ({"x": ENTRY, "y": ENTRY}, bytes(8)),
    "a place outside": ({"x": {**ENTRY, "data_offsets": [0, 1 << 60]}}, bytes(8)),
    "a negative place": ({"x": {**ENTRY, "data_offsets": [-8, 0]}}, bytes(8)),
    "another shape": ({"x": {**ENTRY, "shape": [3]}}, bytes(8)),
    "a negative shape": ({"x": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "a huge shape": ({"x": {**ENTRY, "shape": [1 << 61, 1 << 61]}}, bytes(8)),
    "a huge shape of nothing": ({"x": {**ENTRY, "shape": [0, 1 << 61, 1 << 61], "data_offsets": [0, 0]}}, b""),
    "a shape that overflows to nothing": ({"x": {**ENTRY, "shape": [1 << 61, 8], "data_offsets": [0, 0]}}, b""),
    "a hundred axes": ({"x": {**ENTRY, "shape": [1] * 100, "data_offsets": [0, 4]}}, bytes(4)),
    "sizes that are truth values": ({"x": {**ENTRY, "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
    "sizes that are fractions": ({"x": {**ENTRY, "shape": [2.0]}}, bytes(8)),
    "an unknown dtype": ({"x": {**ENTRY, "dtype": "<U500000000"}}, bytes(8)),
    "a dtype that is a list": ({"x": {**ENTRY, "dtype": ["F32"]}}, bytes(8)),
    "an entry that is a text": ({"x": "F32"}, bytes(8)),
    "an entry with more names": ({"x": {**ENTRY, "z": 1}}, bytes(8)),
    "notes that are numbers": ({"__metadata__": {"a": 1}}, b""),
    "a header that is a list": ([], b""),
    "a header that is no text": (b"\xff\xfe", b""),
    "a header that is no JSON": (b"{", b""),
    "names that come twice": (b'{"x": %b, "x": %b}' % ((json.dumps(ENTRY).encode(),) * 2), bytes(8)),
    "a header nested deeply": (b"[" * 200_000, b""),
    "a number of many digits": (b'{"x": ' + b"9" * 5000 + b"}", b""),
    "truth values that are neither": ({"x": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\x02"),
    "a hash without its text": ({"__metadata__": {"text_sha256": "0"}}, b""),
    "a text without its hash": ({"__metadata__": {"hashed_text": "{}"}}, b""),
    "a text of another hash": ({"__metadata__": {"hashed_text": "{}", "text_sha256": "0"}}, b""),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_header_that_no_writer_makes_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "wrong").write_bytes(raw(*WRONG[kind]))
    with pytest.raises(CorruptFileError, match="wrong is"):
        read_arrays(tmp_path / "wrong")


def test_a_header_longer_than_the_file_is_refused_without_its_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(CorruptFileError, match="its header would end behind it"):
        read_arrays(tmp_path / "a")


def test_the_digest_knows_dtype_shape_and_bytes() -> None:
    x = np.arange(6, dtype="f4")
    different = [x, x.reshape(2, 3), x.view("i4"), x[::-1], x[:0], x[:0].astype("f8")]
    assert len({array_digest(array) for array in different}) == len(different)
    assert array_digest(np.asfortranarray(x.reshape(2, 3))) == array_digest(x.reshape(2, 3))
