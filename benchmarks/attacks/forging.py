"""Files as one makes them who knows the format: manifests and files whose hashes are right, zip files to the byte."""

import stat
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

from model_handler.files.canonical_json import canonical


def manifest_text(content: Any, files: Any) -> str:
    """The text of a manifest whose hash is right."""
    whole = {"content": content, "files": files}
    return canonical({**whole, "sha256": sha256(canonical(whole).encode()).hexdigest()})


def forged_file(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write a file under its name with its hash: the entry that names it in a manifest."""
    digest = sha256(data).hexdigest()
    stem, _, suffix = name.rpartition(".")
    file = f"{stem}-{digest[:32]}.{suffix}"
    (folder / file).write_bytes(data)
    return {"file": file, "size": len(data), "sha256": digest}


def packed(folder: Path, names: Sequence[str]) -> bytes:
    """A zip file of what is in a directory, in the order of these names as far as it has them; links and such too."""
    paths = sorted(folder.iterdir(), key=lambda path: names.index(path.name) if path.name in names else len(names))
    odd = next((path for path in paths if path.is_symlink() or not path.is_file()), None)
    files = [(path.name, path.read_bytes() if path.is_file() and path != odd else b"x") for path in paths]
    # One mode for all: an entry of another kind than a plain file is refused wherever it stands.
    return (
        forged_archive(files) if odd is None else forged_archive(files, mode=stat.S_IFMT(odd.lstat().st_mode) | 0o644)
    )


def forged_archive(files: Sequence[tuple[str, bytes]], comment: bytes = b"", **fields: int) -> bytes:
    """A zip file of these files as docs/format.md describes it; `fields` of every entry may be other ones.

    They are `flags`, `method`, `time`, `date`, `crc`, `packed` and `size` (in bytes), and `mode`, of the file.
    """
    data, directory = b"", b""
    for name, content in files:
        said = {"flags": 0, "method": 0, "time": 0, "date": 0x21, "crc": crc32(content)}
        said |= {"packed": len(content), "size": len(content), "mode": 0o100644, **fields}
        encoded, place = name.encode(), len(data)
        middle = struct.pack("<HHHHHIII", 20, *(said[field] for field in list(said)[:7]))
        padding = bytes(-(place + 30 + len(encoded) + 6) % 8)
        extra = struct.pack("<HHH", 0xD935, 2 + len(padding), 8) + padding
        data += b"PK\3\4" + middle + struct.pack("<HH", len(encoded), len(extra)) + encoded + extra + content
        directory += b"PK\1\2" + struct.pack("<H", 0x0314) + middle
        directory += struct.pack("<HHHHHII", len(encoded), 0, 0, 0, 0, said["mode"] << 16, place) + encoded
    ends = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), len(data), len(comment))
    return data + directory + b"PK\5\6" + ends + comment
