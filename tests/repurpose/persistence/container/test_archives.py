"""Archives: one way to write them, read by any program; and no other file is taken for one."""

import itertools
import os
import random
import struct
import time
import tracemalloc
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.attacks.forging import forged_archive, manifest_text
from model_handler.errors import CorruptFileError, UnsafeFileError
from repurpose.persistence.container import archives
from repurpose.persistence.container.archives import begins_as_archive, is_archive, read_archive, write_archive
from repurpose.persistence.container.manifests import Demands, Protection
from tests.repurpose.persistence.container.writers import forks, writing


def write(path: Path, number: int, size: int = 1000) -> str:
    """An archive of which every part tells its number."""
    files = {"arrays.safetensors": bytes([number % 256]) * size, "estimator_0.skops": str(number).encode()}
    payloads = {name: lambda data=data: [data[:3], data[3:]] for name, data in files.items()}
    return write_archive(path, {"format": 3, "number": number}, payloads, b"a card", Protection())


def write_much(path: Path, number: int) -> None:
    write(path, number, size=200_000)


def number_of(path: Path) -> int:
    """The number of the archive. Fails where its parts are of several."""
    found = read_archive(path, Demands())
    number = found.content["number"]
    assert {*found.files["arrays.safetensors"]} == {number % 256}
    assert found.files["estimator_0.skops"] == str(number).encode()
    return number


def files_in(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as opened:
        return [(name, opened.read(name)) for name in opened.namelist()]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write(tmp_path / "saved.zip", 1)
    return tmp_path / "saved.zip"


def test_an_archive_is_read_as_it_was_written_and_replaced(tmp_path: Path) -> None:
    for number in (1, 2, 1):
        digest = write(tmp_path / "new" / "saved.zip", number)
        assert number_of(tmp_path / "new" / "saved.zip") == number
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["saved.zip"]
    manifest = dict(files_in(tmp_path / "new" / "saved.zip"))["manifest.json"]
    assert digest == sha256(manifest).hexdigest()


def test_any_program_can_open_it_and_the_same_is_written_twice(saved: Path) -> None:
    with zipfile.ZipFile(saved) as opened:
        assert opened.testzip() is None
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}
        first, second, *files = opened.namelist()
    assert (first, second) == ("manifest.json", "README.md")
    assert [name.partition("-")[0] for name in files] == ["arrays", "estimator_0"]
    before = saved.read_bytes()
    assert before == forged_archive(files_in(saved))  # by the documented layout
    write(saved, 1)
    assert saved.read_bytes() == before


def test_arrays_are_aligned_and_take_no_second_copy(tmp_path: Path) -> None:
    data = bytes(8_000_000)
    write_archive(tmp_path / "a.zip", {"format": 3}, {"arrays.safetensors": lambda: [data]}, b"abc", Protection())
    tracemalloc.start()
    found = read_archive(tmp_path / "a.zip", Demands())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.1 * len(data)
    values = np.frombuffer(found.files["arrays.safetensors"], np.float64)
    assert values.flags.aligned
    assert values.flags.writeable


def test_beyond_four_gibibytes_sizes_and_places_have_wider_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST", 900)
    write(tmp_path / "large.zip", 1)
    assert number_of(tmp_path / "large.zip") == 1
    with zipfile.ZipFile(tmp_path / "large.zip") as opened:
        assert opened.testzip() is None
        wide = [entry.filename.partition("-")[0] for entry in opened.infolist() if entry.extract_version == 45]
    assert wide == ["arrays", "estimator_0"]
    assert b"PK\6\6" in (tmp_path / "large.zip").read_bytes()
    monkeypatch.undo()
    with pytest.raises(CorruptFileError, match=r"header of arrays-\w+\.safetensors is not in the form"):
        read_archive(tmp_path / "large.zip", Demands())  # where they need no wider fields


def test_any_changed_bit_is_noticed(saved: Path) -> None:
    write(saved, 1, size=40)
    data, rng = saved.read_bytes(), random.Random(0)
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        saved.write_bytes(changed)
        with pytest.raises((CorruptFileError, UnsafeFileError), match=r"saved\.zip"):
            read_archive(saved, Demands())


def test_what_is_cut_or_longer_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for n_bytes in {*range(0, len(data), 29), len(data) - 1}:
        saved.write_bytes(data[:n_bytes])
        with pytest.raises(CorruptFileError, match=r"saved\.zip"):
            read_archive(saved, Demands())
    for longer in (data + b"\0", data + data, b"\0" + data, data + b"PK\5\6" + bytes(18)):
        saved.write_bytes(longer)
        with pytest.raises(CorruptFileError, match=r"saved\.zip"):
            read_archive(saved, Demands())


OUTSIDE = [
    "../secret",
    "/etc/passwd",
    "C:\\secret",
    "a/../../secret",
    "arrays/",
    "Manifest.json",
    "MANIFEST.JSON",
    "manifest.json/",
    "manifest\0.json",
    "readme.md",
    "arrays.safetensors",
    "ARRAYS-00000000000000000000000000000000.safetensors",
    "arr\u0061\u0301ys-00000000000000000000000000000000.safetensors",
    "arr\u00e1ys-00000000000000000000000000000000.safetensors",
    "",
    "a" * 60,
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("place", [0, 1, 4])
def test_no_other_names_are_in_it(saved: Path, name: str, place: int) -> None:
    files = files_in(saved)
    files.insert(place, (name, b"secret"))
    saved.write_bytes(forged_archive(files))
    with pytest.raises(UnsafeFileError, match=r"saved\.zip has a file of the name .* none that is written there"):
        read_archive(saved, Demands())


def test_files_are_those_of_the_manifest_once_and_in_its_order(saved: Path) -> None:
    manifest, card, arrays, estimator = files_in(saved)
    for twice in ([manifest, card, arrays, estimator, arrays], [manifest, manifest, card, arrays, estimator]):
        saved.write_bytes(forged_archive(twice))
        with pytest.raises(UnsafeFileError, match="two files of the name"):
            read_archive(saved, Demands())
    more = ("arrays-00000000000000000000000000000000.safetensors", b"")
    for others in (
        [manifest, card, arrays],
        [manifest, arrays, estimator],
        [manifest, card, estimator, arrays],
        [card, manifest, arrays, estimator],
        [manifest, card, arrays, estimator, more],
    ):
        saved.write_bytes(forged_archive(others))
        with pytest.raises(CorruptFileError, match="other files than its"):
            read_archive(saved, Demands())
    for nothing in ([card, arrays, estimator], []):
        saved.write_bytes(forged_archive(nothing))
        with pytest.raises(CorruptFileError, match=r"is no saved repurposer"):
            read_archive(saved, Demands())
    saved.write_bytes(forged_archive([manifest, card, arrays, (estimator[0], b"2")]))
    with pytest.raises(CorruptFileError, match=r"estimator_0-\w+\.skops is damaged"):
        read_archive(saved, Demands())


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 1},
        {"flags": 1 << 3},
        {"flags": 1 << 11},
        {"method": 8},
        {"method": 99},
        {"time": 1},
        {"date": 0},
        {"crc": 0},
        {"size": 0},
        {"size": 1 << 31},
        {"packed": 0},
        {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF},
        {"mode": 0o120777},
        {"mode": 0o040755},
        {"comment": b"a comment"},
    ],
)
def test_entries_are_plain_files_and_nothing_else(saved: Path, fields: dict[str, Any]) -> None:
    saved.write_bytes(forged_archive(files_in(saved), **fields))
    with pytest.raises((CorruptFileError, UnsafeFileError), match=r"saved\.zip"):
        read_archive(saved, Demands())


def test_sizes_of_2_to_the_60_take_no_memory(saved: Path) -> None:
    (_, manifest), *_ = files_in(saved)
    wide = struct.pack("<HHQQ", 1, 16, 1 << 60, 1 << 60)
    extra = wide + struct.pack("<HHH", 0xD935, 2 + -(30 + 13 + 26) % 8, 8) + bytes(-(30 + 13 + 26) % 8)
    header = struct.pack("<5H3I2H", 45, 0, 0, 0, 0x21, 0, 0xFFFFFFFF, 0xFFFFFFFF, 13, len(extra))
    saved.write_bytes(b"PK\3\4" + header + b"manifest.json" + extra + manifest)
    tracemalloc.start()
    with pytest.raises(CorruptFileError, match=r"saved\.zip is damaged: it ends within manifest\.json"):
        read_archive(saved, Demands())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


def test_what_zipfile_writes_is_refused_bombs_too(saved: Path) -> None:
    files = files_in(saved)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(saved, "w", compression) as opened:
            for name, data in files:
                opened.writestr(name, data + bytes(5_000_000))
        tracemalloc.start()
        with pytest.raises((CorruptFileError, UnsafeFileError), match=r"compressed|not in the form"):
            read_archive(saved, Demands())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1_000_000


def test_what_is_no_file_of_its_own_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(saved)
    with pytest.raises(UnsafeFileError, match=r"link\.zip is a symbolic link"):
        read_archive(tmp_path / "link.zip", Demands())
    saved.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*saved\.zip"):
        read_archive(saved, Demands())
    saved.mkdir()
    with pytest.raises(UnsafeFileError, match="is a directory"):
        read_archive(saved, Demands())
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.zip")
        with pytest.raises(UnsafeFileError, match="is a named pipe"):
            read_archive(tmp_path / "pipe.zip", Demands())


def test_a_file_of_somebody_else_does_not_begin_as_an_archive(saved: Path, tmp_path: Path) -> None:
    assert begins_as_archive(saved)
    saved.write_bytes(saved.read_bytes()[:300])  # a damaged one may be replaced
    assert begins_as_archive(saved)
    extension = tmp_path / "extension.zip"  # of a browser, which has a manifest too
    for content in (forged_archive([("manifest.json", b'{"name": "x"}')]), b"", b"PK\3\4", b"text", bytes(200)):
        extension.write_bytes(content)
        assert not begins_as_archive(extension)
    with zipfile.ZipFile(extension, "w") as opened:
        opened.writestr("manifest.json", manifest_text({"format": 3}, {}))
    assert not begins_as_archive(extension)


def test_a_name_that_ends_in_zip_means_one_file(tmp_path: Path) -> None:
    (tmp_path / "old.zip").mkdir()
    names = {"a.zip": True, "a.ZIP": True, "zip": False, "a.zip.d": False, "old.zip": False}
    assert {name: is_archive(tmp_path / name) for name in names} == names


def test_a_write_that_fails_leaves_the_archive_before_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    for n_pieces in range(4):
        calls = itertools.count()

        def fails_later(n_pieces: int = n_pieces, calls: Any = calls) -> Any:
            for number in range(4):
                if next(calls) >= 4 + n_pieces:  # not when it is measured
                    raise OSError(28, "No space left on device")
                yield bytes([number])

        with pytest.raises(OSError, match="No space left"):
            write_archive(saved, {}, {"arrays.safetensors": fails_later}, b"", Protection())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "broken")))
    with pytest.raises(OSError, match="broken"):
        write(saved, 2)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@forks
def test_a_writer_killed_at_any_moment_leaves_a_whole_archive(saved: Path) -> None:
    rng, last = random.Random(0), 1
    for _ in range(8):
        with writing(write_much, saved, last):
            time.sleep(rng.uniform(0, 0.05))
        last = number_of(saved) + 1
        write(saved, last)
        assert number_of(saved) == last
        assert list(saved.parent.iterdir()) == [saved]


@forks
def test_beside_two_writers_a_reader_never_finds_parts_of_both(saved: Path) -> None:
    with writing(write_much, saved, 2, 2), writing(write_much, saved, 3, 2):
        found: set[int] = set()
        for _ in range(2000):
            found.add(number_of(saved))
            if len(found) > 20 and {number % 2 for number in found} == {0, 1}:
                break
    assert {number % 2 for number in found} == {0, 1}
