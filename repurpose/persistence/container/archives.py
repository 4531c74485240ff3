"""Archives: a saved repurposer in one zip file, that any program opens, and that is read without trust.

Entries are stored as they are, so that none can be a bomb. All around them follows from their names, sizes and CRCs:
a reader builds it again and refuses a file that has one byte of it otherwise. So there is one way to read the file,
and no second directory, comment, link, or entry that another program would see and this one would not. The layout is
that of PKWARE's APPNOTE 6.3; the times are of 1980, and data begin at multiples of 8 bytes, as zipalign has them.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from model_handler.files.regular_files import read_beginning, read_file
from model_handler.files.whole_files import Piece, make_folder, write_whole
from repurpose.persistence.container.encryption import MAGIC, cipher_of
from repurpose.persistence.container.manifests import (
    CARD,
    MANIFEST,
    Content,
    Demands,
    Generation,
    Payload,
    Protection,
    check_payload,
    entry_of,
    is_payload,
    parse_manifest,
    text_of_manifest,
)

__all__ = ["begins_as_archive", "is_archive", "read_archive", "write_archive"]

_SUFFIX = ".zip"
_NAME_IN_KEYS = "archive.zip"  # what the file is encrypted as: it may be renamed
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_WIDE_END = struct.Struct("<4sQ2H2I4Q4sIQI")  # of files beyond 4 GiB: where the directory is, and where that is told
_BEGINS, _IN_DIRECTORY, _ENDS = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_WIDE_ENDS, _WIDE_PLACE = b"PK\x06\x06", b"PK\x06\x07"
_VERSION, _WIDE_VERSION, _UNIX = 20, 45, 3 << 8
_DATE = 1 << 5 | 1  # the first of January of 1980
_REGULAR_FILE = 0o100644 << 16
_WIDE, _MANY = 0xFFFFFFFF, 0xFFFF  # in the place of what is in a wider field elsewhere
_MOST = _WIDE - 1  # that needs none
_WIDE_FIELD, _ALIGNING_FIELD = 1, 0xD935
_ALIGNMENT = 8
_BEGINNING_BYTES = 128  # enough for the header of the manifest and the first letters of it
_FIRST_LETTERS = b'{"content":{"format":'


@dataclass(frozen=True)
class _File:
    """An entry: a file of the archive, and where its header begins."""

    name: str
    crc: int
    size: int
    place: int

    @property
    def header(self) -> bytes:
        """What is in front of its data."""
        name, size = self.name.encode(), _narrow(self.size)
        is_wide = size == _WIDE
        extra = struct.pack("<2H2Q", _WIDE_FIELD, 16, self.size, self.size) if is_wide else b""
        unaligned = self.place + _LOCAL.size + len(name) + len(extra) + 6
        padding = -unaligned % _ALIGNMENT
        extra += struct.pack("<3H", _ALIGNING_FIELD, 2 + padding, _ALIGNMENT) + bytes(padding)
        version = _WIDE_VERSION if is_wide else _VERSION
        fields = (version, 0, 0, 0, _DATE, self.crc, size, size, len(name), len(extra))
        return _LOCAL.pack(_BEGINS, *fields) + name + extra

    @property
    def in_directory(self) -> bytes:
        """What the directory at the end says of it."""
        name, size, place = self.name.encode(), _narrow(self.size), _narrow(self.place)
        wide = [self.size] * 2 * (size == _WIDE) + [self.place] * (place == _WIDE)
        extra = struct.pack(f"<2H{len(wide)}Q", _WIDE_FIELD, 8 * len(wide), *wide) if wide else b""
        version = _WIDE_VERSION if wide else _VERSION
        fields = (_UNIX | version, version, 0, 0, 0, _DATE, self.crc, size, size, len(name), len(extra))
        return _CENTRAL.pack(_IN_DIRECTORY, *fields, 0, 0, 0, _REGULAR_FILE, place) + name + extra

    @property
    def begin(self) -> int:
        """Where its data begin."""
        return self.place + len(self.header)

    @property
    def end(self) -> int:
        """Where its data end."""
        return self.begin + self.size


def is_archive(path: Path) -> bool:
    """Tell whether what is saved to `path` becomes one file; a directory of such a name stays one."""
    return path.suffix.lower() == _SUFFIX and not path.is_dir()


def begins_as_archive(path: Path) -> bool:
    """Tell whether a file begins as one that `write_archive` wrote, which may be damaged behind that.

    Raises OSError or UnsafeFileError where it cannot be read.
    """
    data = read_beginning(path, _BEGINNING_BYTES, follow_links=False)
    if data.startswith(MAGIC):
        return True
    try:
        manifest = _file_at(memoryview(data), 0, str(path))
    except ValueError:
        return False
    return manifest.name == MANIFEST and data[manifest.begin :].startswith(_FIRST_LETTERS)


def write_archive(
    path: Path, content: JsonValue, payloads: Mapping[str, Payload], card: bytes, protection: Protection
) -> str:
    """Write these files, and the manifest that says this of them, as one file; one that is there is replaced.

    Parameters
    ----------
    path : Path
        The file; directories above it are made where they are missing.
    content : value that JSON holds
        What the manifest says besides.
    payloads : mapping of str to function
        By file name, such as ``"arrays.safetensors"``, what gives the bytes of the file in pieces, each time it is
        called the same.
    card : bytes
        A text for people.
    protection : Protection

    Returns the SHA-256 of the manifest. Raises OSError where the file cannot be written; what was there stays.
    """
    make_folder(path.parent)
    entries = {name: entry_of(name, pieces()) for name, pieces in payloads.items()}
    text, digest = text_of_manifest(content, entries, protection)
    contents: dict[str, Payload] = {MANIFEST: lambda: [text], CARD: lambda: [card]}
    contents |= {str(entry["file"]): payloads[name] for name, entry in entries.items()}
    pieces = _pieces_of(contents)
    if protection.cipher is not None:
        pieces = protection.cipher.encrypted(pieces, _NAME_IN_KEYS)
    write_whole(path, pieces, follow_links=False)
    return digest


def read_archive(path: Path, demands: Demands) -> Generation:
    """Read an archive, and verify that it is what was written.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    CorruptFileError, UnsafeFileError
        Naming the file, if it is not what was written, no regular file of its own, or not as demanded.
    """
    what = str(path)
    beginning = read_beginning(path, _BEGINNING_BYTES, follow_links=False)
    is_sealed = cipher_of(beginning, demands.key, what, demands.key_fix) is not None
    if not is_sealed:  # a large file of somebody else is not read as a whole
        _file_at(memoryview(beginning), 0, what)
    data = read_file(path, follow_links=False)
    cipher = cipher_of(data, demands.key, what, demands.key_fix)
    view = memoryview(data) if cipher is None else cipher.decrypted(data, _NAME_IN_KEYS, what)
    found = _files_in(view, what)
    if MANIFEST not in found:
        raise CorruptFileError(f"{what} is no saved repurposer: it has no {MANIFEST}")
    content, entries = parse_manifest(found[MANIFEST], str(path / MANIFEST), demands)
    if list(found) != [MANIFEST, CARD, *(entry["file"] for entry in entries.values())]:
        raise CorruptFileError(f"{what} is damaged: it has other files than its {MANIFEST} names, or in another order")
    files: dict[str, Content] = {name: found[str(entry["file"])] for name, entry in entries.items()}
    for name, entry in entries.items():
        check_payload(files[name], entry, str(path / str(entry["file"])))
    return Generation(content, files, sha256(found[MANIFEST]).hexdigest())


def _pieces_of(contents: Mapping[str, Payload]) -> Iterator[Piece]:
    """Yield the bytes of an archive of these files."""
    files, place = [], 0
    for name, pieces in contents.items():
        files.append(_File(name, *_crc_and_size(pieces()), place))
        yield files[-1].header
        yield from pieces()
        place = files[-1].end
    yield _directory(files, place)


def _crc_and_size(pieces: Iterable[Piece]) -> tuple[int, int]:
    crc, size = 0, 0
    for piece in pieces:
        crc = crc32(piece, crc)
        size += len(piece)
    return crc, size


def _narrow(number: int) -> int:
    """Return what stands for the number in a field of four bytes."""
    return number if number <= _MOST else _WIDE


def _directory(files: list[_File], place: int) -> bytes:
    """Return what is behind the data: the directory, and where that is."""
    body = b"".join(file.in_directory for file in files)
    n, size, begin = min(len(files), _MANY), _narrow(len(body)), _narrow(place)
    wide = b""
    if n == _MANY or _WIDE in (size, begin):
        fields = (44, _UNIX | _WIDE_VERSION, _WIDE_VERSION, 0, 0, len(files), len(files), len(body), place)
        wide = _WIDE_END.pack(_WIDE_ENDS, *fields, _WIDE_PLACE, 0, place + len(body), 1)
    return body + wide + _END.pack(_ENDS, 0, 0, n, n, size, begin, 0)


def _files_in(view: memoryview, what: str) -> dict[str, memoryview]:
    """Return the data of each file by name, none of them copied. Raises CorruptFileError or UnsafeFileError."""
    files: list[_File] = []
    found: dict[str, memoryview] = {}
    place = 0
    while bytes(view[place : place + 4]) == _BEGINS:
        file = _file_at(view, place, what)
        if file.name in found:
            raise UnsafeFileError(f"{what} has two files of the name {file.name!r}")
        if file.end > len(view):
            raise CorruptFileError(f"{what} is damaged: it ends within {file.name}")
        data = view[file.begin : file.end]
        if crc32(data) != file.crc:
            raise CorruptFileError(f"{what} is damaged: its {file.name} is not what was written")
        files.append(file)
        found[file.name] = data
        place = file.end
    if view[place:] != _directory(files, place):
        raise CorruptFileError(f"{what} is damaged: the directory at its end is not the one of its files")
    return found


def _file_at(view: memoryview, place: int, what: str) -> _File:
    """Return the file whose header is there. Raises CorruptFileError or UnsafeFileError where it is none of ours."""
    if len(view) < place + _LOCAL.size or bytes(view[place : place + 4]) != _BEGINS:
        raise CorruptFileError(f"{what} is no saved repurposer: it is no {_SUFFIX} file, or was cut")
    _, _, flags, method, _, _, crc, _, size, name_bytes, _ = _LOCAL.unpack_from(view, place)
    begin = place + _LOCAL.size
    if len(view) < begin + name_bytes:
        raise CorruptFileError(f"{what} is damaged: it ends within the name of a file")
    name = bytes(view[begin : begin + name_bytes]).decode("ascii", "backslashreplace")
    if name not in (MANIFEST, CARD) and not is_payload(name):
        raise UnsafeFileError(f"{what} has a file of the name {name[:60]!r}, which is none that is written there")
    if flags & 1:
        raise UnsafeFileError(f"{what} has {name} encrypted as {_SUFFIX} files can be, which is not done here")
    if method:
        raise UnsafeFileError(f"{what} has {name} compressed, so that it could be of any size")
    if size == _WIDE and len(view) >= begin + name_bytes + 12:
        (size,) = struct.unpack_from("<Q", view, begin + name_bytes + 4)
    file = _File(name, crc, size, place)
    if view[place : file.begin] != file.header:
        raise CorruptFileError(f"{what} is damaged: the header of {name} is not in the form in which it is written")
    return file
