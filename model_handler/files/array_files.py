"""Array files: safetensors files of arrays beside a JSON text, with SHA-256 checksums that reveal damage.

Any reader of safetensors opens them (https://huggingface.co/docs/safetensors). The text is JSON in the metadata, with a
SHA-256 of every array (its dtype, shape and bytes); a SHA-256 of the text stands beside it. So one changed bit anywhere
that matters is noticed. Hashes find damage; who wants to deceive can compute them too.
"""

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from os import PathLike

import numpy as np

from model_handler.errors import CorruptFileError
from model_handler.files.canonical_json import JsonValue, canonical, parse_canonical, parse_json
from model_handler.files.regular_files import map_file, read_file
from model_handler.files.whole_files import Piece, write_whole

__all__ = [
    "ArrayFile",
    "array_digest",
    "little_endian",
    "map_arrays",
    "parse_arrays",
    "pieces_of",
    "read_arrays",
    "wastes_memory",
    "write_arrays",
]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_SPARE_WIDTH = 25_000_000  # characters, of 4 bytes each
_LENGTH = struct.Struct("<Q")  # of the header, in front of it
_TEXT, _HASH, _ALL = "hashed_text", "text_sha256", "__metadata__"
_MOST_AXES, _MOST_NUMBERS = 64, 1 << 59  # of a numpy array; of 8 bytes each


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """What a file holds: arrays by name and notes by name, and the hashed text as a value, None where it has none."""

    arrays: dict[str, np.ndarray]
    notes: dict[str, str]
    content: JsonValue

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the text, which has that of every array; None where the file has no hashes."""
        return self.notes.get(_HASH)


def write_arrays(path: str | PathLike, arrays: Mapping[str, np.ndarray], content: JsonValue) -> None:
    """Write arrays and a value that JSON holds, with their hashes, as a whole; a file that is there is replaced.

    Raises OSError where it cannot be written, TypeError for an array of a dtype that has no place in such files.
    """
    little = little_endian(arrays)
    text = canonical({"arrays": {name: array_digest(array) for name, array in little.items()}, "content": content})
    write_whole(path, pieces_of(little, {_TEXT: text, _HASH: sha256(text.encode()).hexdigest()}))


def little_endian(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays contiguous and little-endian, as safetensors files have them; copied where they are not.

    Raises TypeError for an array of a dtype that has no place in such files.
    """
    found = {}
    for name, array in arrays.items():
        # The shape is given back since `ascontiguousarray` makes a single number an array of one.
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        if array.dtype not in _NAMES:
            raise TypeError(f"the array {name!r} is of dtype {array.dtype}, which has no place in a safetensors file")
        found[name] = array
    return found


def pieces_of(arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> Iterator[Piece]:
    """Yield the bytes of a safetensors file of `little_endian` arrays in pieces: no second copy of them is made."""
    # As safetensors lays them out: large items first, so that each begins at a multiple of its size.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, JsonValue] = {_ALL: dict(notes)} if notes else {}
    end = 0
    for name in order:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = canonical(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays behind the header are aligned to 8 bytes
    yield _LENGTH.pack(len(text))
    yield text
    for name in order:
        yield _bytes_of(arrays[name])


def read_arrays(path: str | PathLike, *, most_bytes: int | None = None, follow_links: bool = True) -> ArrayFile:
    """Read what a file holds, each array with memory that may be written to.

    Where the file has hashes, everything agrees with them.

    Raises FileNotFoundError; UnsafeFileError for what is no regular file; CorruptFileError, naming the file, for one
    that is no array file, or is damaged.
    """
    return parse_arrays(read_file(path, most_bytes=most_bytes, follow_links=follow_links), str(path))


def map_arrays(path: str | PathLike, *, check: Collection[str] | None = None) -> ArrayFile:
    """Do as `read_arrays`, with arrays that stay in the file and cannot be written to.

    The file is read once, since everything is to agree with its hashes, and never held as a whole. Only the arrays that
    `check` names are, where it is given: the text always agrees with its hash.
    """
    return parse_arrays(map_file(path), str(path), writable=False, check=check)


def parse_arrays(
    data: bytearray | memoryview, what: str, *, writable: bool = True, check: Collection[str] | None = None
) -> ArrayFile:
    """Parse the bytes of a file; `what` names it. Raises CorruptFileError as `read_arrays` does.

    Where arrays need not be `writable`, none is copied from bytes that are read-only. `check` as `map_arrays` has it.
    """
    header, start = _header(data, what)
    notes = header.pop(_ALL, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise CorruptFileError(f"{what} is damaged: its notes are no texts")
    arrays, ends = {}, [(0, 0)]
    for name, entry in header.items():
        array, place = _array(data, start, entry, f"{what} is damaged: its array {name[:60]!r}")
        # Files that others wrote may have an array at any byte, and unaligned memory is slow or refused.
        arrays[name] = np.require(array, requirements=["A", "W"] if writable else ["A"])
        ends.append(place)
    ends.sort()
    if any(before[1] != after[0] for before, after in pairwise(ends)) or start + ends[-1][1] != len(data):
        raise CorruptFileError(f"{what} is damaged: its arrays do not fill it, one behind the other")
    if _TEXT not in notes and _HASH not in notes:
        return ArrayFile(arrays, notes, None)
    if _TEXT not in notes or _HASH not in notes:  # one changed bit in the name of the other
        raise CorruptFileError(f"{what} is damaged: it has a hash or a text, and not both")
    return ArrayFile(arrays, notes, _checked(arrays, notes, what, arrays if check is None else check))


def wastes_memory(width: int, texts: Sequence[str], spare: int = _SPARE_WIDTH) -> bool:
    """Tell whether texts in an array of this width take `spare` characters more than a few times their own length.

    By default these are 100 MB. numpy gives every text the width of the dtype, so one long text, or a false width,
    could fill the memory.
    """
    return width * len(texts) > spare + 4 * sum(map(len, texts))


def array_digest(array: np.ndarray) -> str:
    """Compute the SHA-256, in hexadecimal digits, of the dtype, the shape and the bytes of an array."""
    found = sha256(f"{array.dtype.str}{array.shape}".encode())
    found.update(_bytes_of(np.ascontiguousarray(array)))
    return found.hexdigest()


def _bytes_of(array: np.ndarray) -> Piece:
    """Return the memory of an array in the order of its axes."""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else b""


def _header(data: bytearray | memoryview, what: str) -> tuple[dict[str, JsonValue], int]:
    """Parse the header by name, and find where the arrays begin."""
    if len(data) < _LENGTH.size:
        raise CorruptFileError(f"{what} is no safetensors file: it has {len(data)} bytes")
    (length,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + length
    if start > len(data):
        raise CorruptFileError(f"{what} is no safetensors file, or was cut: its header would end behind it")
    try:
        text = str(data[_LENGTH.size : start], "utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{what} is no safetensors file: {error}") from error
    header = parse_json(text, what)
    if not isinstance(header, dict):
        raise CorruptFileError(f"{what} is no safetensors file: its header holds no names")
    return header, start


def _array(
    data: bytearray | memoryview, start: int, entry: JsonValue, array: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the array of an entry of the header, and its place; `array` begins the sentence of any error."""
    if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        raise CorruptFileError(f"{array} lacks a dtype, a shape or a place")
    shape, place = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise CorruptFileError(f"{array} is of the unknown dtype {str(entry['dtype'])[:20]!r}")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES or not _are_sizes(place) or len(place) != 2:
        raise CorruptFileError(f"{array} has sizes that are none")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    begin, end = place
    if not begin <= end <= len(data) - start or math.prod(shape) * dtype.itemsize != end - begin:
        raise CorruptFileError(f"{array} has a place in the file that does not fit its shape {str(shape)[:60]}")
    values = np.frombuffer(data, dtype, math.prod(shape), start + begin) if end > begin else np.empty(0, dtype)
    # numpy takes for granted that a truth value is the byte 0 or 1, and computes nonsense with others.
    if dtype == np.bool_ and values.size and values.view(np.uint8).max() > 1:
        raise CorruptFileError(f"{array} holds truth values that are neither true nor false")
    return values.reshape(shape), (begin, end)


def _are_sizes(given: JsonValue) -> bool:
    """Tell whether an array can have these sizes: numpy multiplies them, but for zeros, in a signed integer."""
    return (
        isinstance(given, list)
        and all(type(size) is int and size >= 0 for size in given)
        and math.prod(size or 1 for size in given) < _MOST_NUMBERS
    )


def _checked(
    arrays: Mapping[str, np.ndarray], notes: Mapping[str, str], what: str, check: Collection[str]
) -> JsonValue:
    """Return the content after verifying the hashes of text and arrays. Raises CorruptFileError where one differs."""
    # JSON can spell lone surrogates, which strict UTF-8 refuses to encode.
    if sha256(notes[_TEXT].encode(errors="surrogatepass")).hexdigest() != notes[_HASH]:
        raise CorruptFileError(f"{what} is damaged: its text is not the one that was written")
    said = parse_canonical(notes[_TEXT], what)
    if not isinstance(said, dict) or sorted(said) != ["arrays", "content"] or not isinstance(said["arrays"], dict):
        raise CorruptFileError(f"{what} is damaged: its text does not name its arrays")
    if sorted(said["arrays"]) != sorted(arrays):
        raise CorruptFileError(f"{what} is damaged: it does not hold the arrays that its text names")
    for name, array in arrays.items():
        if name in check and array_digest(array) != said["arrays"][name]:
            raise CorruptFileError(f"{what} is damaged: its array {name[:60]!r} is not what was written")
    return said["content"]
