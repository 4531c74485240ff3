"""Writing as a whole: what others may read, what failures leave, what a killed writer leaves."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from model_handler.files import whole_files
from model_handler.files.whole_files import write_whole


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pieces_stand_behind_each_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", [b"one ", bytearray(b"two "), memoryview(b"three")])
    assert (tmp_path / "a").read_bytes() == b"one two three"
    assert names(tmp_path) == ["a"]


def test_a_file_may_be_read_by_all_whom_the_umask_allows(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "a", [b"x"])
    assert mode_of(tmp_path / "a") == 0o666 & ~umask


def test_a_file_that_is_replaced_lets_others_do_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o640)
    write_whole(tmp_path / "a", [b"x"])
    assert mode_of(tmp_path / "a") == 0o640


def test_behind_a_link_the_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    write_whole(tmp_path / "link", [b"x"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"x"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="folder is no file, and is not replaced by one"):
        write_whole(tmp_path / "folder", [b"x"])


def test_no_folder_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a cannot be written: No such file or directory"):
        write_whole(tmp_path / "no" / "a", [b"x"])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_whatever_fails_the_old_file_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise error

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        write_whole(tmp_path / "a", pieces())
    if isinstance(error, OSError):
        said = f"{tmp_path / 'a'} cannot be written: No space left on device; it needs 3 bytes; "
        assert said in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


KILLED = """
import os, signal, sys
from model_handler.files.whole_files import write_whole
def pieces():
    yield b"new"
    print("half", flush=True)
    sys.stdin.read()
write_whole(sys.argv[1], pieces())
"""


def test_what_a_killed_writer_left_goes_with_the_next_write_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        write_whole(tmp_path / "a", [b"other"])
        assert len(names(tmp_path)) == 2  # it is being written still
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / "a").read_bytes() == b"other"
    assert len(names(tmp_path)) == 2
    write_whole(tmp_path / "a", [b"last"])
    assert names(tmp_path) == ["a"]


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = [bytes([number]) * 1000 for number in range(200)]
        list(pool.map(lambda data: write_whole(tmp_path / "a", [data]), written))  # raises what one of them raised
    assert (tmp_path / "a").read_bytes() in written
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_is_written_all_the_same_and_what_is_an_hour_old_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    for name, age in (("0" * 12, 3700), ("1" * 12, 3500)):
        file = tmp_path / f".a.writing-{name}"
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    for text in (b"x", b"y"):
        write_whole(tmp_path / "a", [text])
    assert (tmp_path / "a").read_bytes() == b"y"
    assert names(tmp_path) == [f".a.writing-{'1' * 12}", "a"]


@pytest.mark.parametrize(("code", "is_told"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
def test_a_name_that_did_not_reach_the_disk_is_an_error_and_a_system_that_syncs_no_names_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_told: bool
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, "not synced")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="a cannot be written: not synced") if is_told else nullcontext():
        write_whole(tmp_path / "a", [b"x"])
    assert names(tmp_path) == ["a"]


def test_a_refused_replacement_is_tried_again_where_that_may_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.replace, []

    def refused_twice(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "in use")
        real(source, target)

    monkeypatch.setattr(whole_files, "_SECONDS_BETWEEN", 0)
    monkeypatch.setattr(whole_files, "_REFUSAL_PASSES", True)
    monkeypatch.setattr(os, "replace", refused_twice)
    write_whole(tmp_path / "a", [b"x"])
    assert len(calls) == 3
