"""Generations: whole at any moment, whoever is killed, writes or reads; and what a manifest may not ask for."""

import errno
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.attacks.forging import manifest_text
from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import canonical
from model_handler.files.whole_files import write_whole
from repurpose.persistence.container.generations import MANIFEST, is_of_a_generation, read_generation, write_generation
from tests.repurpose.persistence.container.writers import forks, writing
from tests.repurpose.saved_files import edit_files


def write(folder: Path, number: int, size: int = 1000) -> None:
    """A generation of which every part tells its number."""
    files = {"arrays.safetensors": bytes([number % 256]) * size, "estimator_0.skops": str(number).encode()}
    write_generation(folder, {"number": number}, {name: lambda data=data: [data] for name, data in files.items()})


def write_much(folder: Path, number: int) -> None:
    write(folder, number, size=200_000)


def number_of(folder: Path) -> int:
    """The number of the present generation. Fails where its parts are of several."""
    found = read_generation(folder)
    number = found.content["number"]
    assert set(found.files["arrays.safetensors"]) == {number % 256}
    assert found.files["estimator_0.skops"] == str(number).encode()
    return number


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_generation_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number in (1, 2, 1):
        write(tmp_path / "new" / "a", number)
        assert number_of(tmp_path / "new" / "a") == number


def test_the_generation_before_stays_and_those_before_that_go(tmp_path: Path) -> None:
    for number in range(1, 6):
        write(tmp_path, number)
    assert len(names(tmp_path)) == 2 + 2 * 2  # manifest and lock; two files of two generations
    assert all(is_of_a_generation(name) for name in names(tmp_path))


def test_files_of_others_stay(tmp_path: Path) -> None:
    for name in ("notes.txt", "arrays.safetensors", "arrays-1.safetensors"):
        (tmp_path / name).touch()
        assert not is_of_a_generation(name)
    for number in range(3):
        write(tmp_path, number)
    assert {"notes.txt", "arrays.safetensors", "arrays-1.safetensors"} < {*names(tmp_path)}


def test_a_write_that_fails_leaves_the_generation_before_it_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, 1)
    before = names(tmp_path)

    def fails() -> Any:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_generation(tmp_path, {}, {"arrays.safetensors": lambda: [b"x"], "z.skops": fails})
    assert names(tmp_path) == before
    assert number_of(tmp_path) == 1


def test_what_another_writes_beside_a_generation_stays(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield b"half, "
        write(tmp_path, 1)
        yield b"and whole"

    write_whole(tmp_path / "README.md", pieces())
    assert (tmp_path / "README.md").read_bytes() == b"half, and whole"
    assert number_of(tmp_path) == 1


def test_without_locks_only_what_is_an_hour_old_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    for number in range(1, 5):
        write(tmp_path, number)
    assert number_of(tmp_path) == 4
    assert len(names(tmp_path)) == 2 + 2 * 4  # another writer's could be among them
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 3700,) * 2)
    write(tmp_path, 5)
    assert number_of(tmp_path) == 5
    assert len(names(tmp_path)) == 2 + 2 * 2


@forks
def test_a_writer_killed_at_any_moment_leaves_a_whole_generation(tmp_path: Path) -> None:
    rng, last = random.Random(0), 0
    write(tmp_path, last)
    for _ in range(8):
        with writing(write_much, tmp_path, last):
            time.sleep(rng.uniform(0, 0.1))
        assert number_of(tmp_path) >= last
        last = number_of(tmp_path) + 1
        write(tmp_path, last)
        assert number_of(tmp_path) == last
        assert all(is_of_a_generation(name) and ".writing" not in name for name in names(tmp_path))
        assert len(names(tmp_path)) <= 2 + 2 * 2


@forks
def test_beside_two_writers_a_reader_never_finds_parts_of_both(tmp_path: Path) -> None:
    write(tmp_path, 0)
    with writing(write_much, tmp_path, 1, 2), writing(write_much, tmp_path, 2, 2):
        found: set[int] = set()
        for _ in range(2000):
            found.add(number_of(tmp_path))
            if len(found) > 20 and {number % 2 for number in found if number} == {0, 1}:
                break
    assert {number % 2 for number in found if number} == {0, 1}


OUTSIDE = [
    "../secret",
    "/etc/passwd",
    "a/../../secret",
    ".",
    "",
    "manifest.json",
    "arrays-1.safetensors",
    "NUL",
    "a\0b",
]


@pytest.mark.parametrize("name", [*OUTSIDE, None, 1, ["x"]])
def test_a_manifest_names_no_file_but_those_that_are_written_there(tmp_path: Path, name: Any) -> None:
    write(tmp_path / "a", 1)
    (tmp_path / "secret").write_text("secret")
    edit_files(tmp_path / "a", lambda files: files["estimator_0.skops"].update(file=name, size=6))
    with pytest.raises(UnsafeFileError, match=r"manifest\.json names the file .*, which is none that is written there"):
        read_generation(tmp_path / "a")


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a size that is smaller": lambda files: files["arrays.safetensors"].update(size=999),
    "a size that is larger": lambda files: files["arrays.safetensors"].update(size=1001),
    "a size that is huge": lambda files: files["arrays.safetensors"].update(size=1 << 80),
    "a size that is negative": lambda files: files["arrays.safetensors"].update(size=-1),
    "a size that is a text": lambda files: files["arrays.safetensors"].update(size="1000"),
    "a size that is true": lambda files: files["arrays.safetensors"].update(size=True),
    "another hash": lambda files: files["arrays.safetensors"].update(sha256="0" * 64),
    "a hash that is a number": lambda files: files["arrays.safetensors"].update(sha256=0),
    "an entry with more": lambda files: files["arrays.safetensors"].update(mode=0),
    "an entry with less": lambda files: files["arrays.safetensors"].pop("size"),
    "an entry that is a text": lambda files: files.update({"arrays.safetensors": "x"}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_entry_that_does_not_fit_its_file_is_refused(tmp_path: Path, kind: str) -> None:
    write(tmp_path, 1)
    edit_files(tmp_path, WRONG[kind])
    with pytest.raises(CorruptFileError, match=r"damaged|at most"):
        read_generation(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"a":1,"a":1}',
        canonical({"content": {}, "files": {}, "sha256": "0"}),
        manifest_text({}, []),
        manifest_text({}, {}).replace(":", ": "),
        "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CorruptFileError, match=r"manifest\.json is damaged"):
        read_generation(tmp_path)


def test_any_changed_bit_of_any_file_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, 1, size=40)
    rng = random.Random(0)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for file in (MANIFEST, *(entry["file"] for entry in manifest["files"].values())):
        data = (tmp_path / file).read_bytes()
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= 1 << rng.randrange(8)
            (tmp_path / file).write_bytes(changed)
            with pytest.raises((CorruptFileError, UnsafeFileError), match=r"manifest|arrays|estimator"):
                read_generation(tmp_path)
        (tmp_path / file).write_bytes(data)
    assert number_of(tmp_path) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*manifest\.json"):
        read_generation(tmp_path)
    write(tmp_path, 1)
    next(tmp_path.glob("estimator*")).unlink()
    with pytest.raises(CorruptFileError, match=r"no file .*estimator_0-\w+\.skops, which .*manifest\.json names"):
        read_generation(tmp_path)


@pytest.mark.parametrize("file", [MANIFEST, "estimator"])
def test_what_is_no_file_of_its_own_is_refused(tmp_path: Path, file: str) -> None:
    write(tmp_path / "a", 1)
    path = next((tmp_path / "a").glob(f"{file}*"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match="is a symbolic link"):
        read_generation(tmp_path / "a")
    path.unlink()
    path.mkdir()
    with pytest.raises(UnsafeFileError, match="is a directory"):
        read_generation(tmp_path / "a")
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(UnsafeFileError, match="is a named pipe"):
            read_generation(tmp_path / "a")
