"""What is opened, and what is not."""

import os
import socket
from pathlib import Path

import pytest

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files import regular_files
from model_handler.files.regular_files import read_beginning, read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"some bytes")
    assert read_file(tmp_path / "a") == b"some bytes"
    assert read_file(str(tmp_path / "a"), most_bytes=10) == b"some bytes"


def test_one_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere"):
        read_file(tmp_path / "nowhere")


def test_one_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(CorruptFileError, match="a has 11 bytes, where at most 10 were expected"):
        read_file(tmp_path / "a", most_bytes=10)


def test_one_for_which_there_is_no_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    sizes: list[int] = []

    def no_memory(size: int) -> bytearray:
        sizes.append(size)
        raise MemoryError

    monkeypatch.setattr(regular_files, "bytearray", no_memory, raising=False)
    with pytest.raises(CorruptFileError, match="a has 11 bytes, for which there is no memory"):
        read_file(tmp_path / "a")
    assert sizes == [11]


def test_the_beginning_is_read_without_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"some bytes")
    assert [read_beginning(tmp_path / "a", n) for n in (0, 4, 99)] == [b"", b"some", b"some bytes"]
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(UnsafeFileError, match="link is a symbolic link"):
        read_beginning(tmp_path / "link", 4, follow_links=False)
    with pytest.raises(UnsafeFileError, match="is a directory"):
        read_beginning(tmp_path, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeFileError, match="pipe is a named pipe, where a file was expected"):
        read_file(tmp_path / "pipe")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such device")
def test_a_device_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(UnsafeFileError, match="is a device"):
        read_file("/dev/zero")
    with pytest.raises(UnsafeFileError, match="is a device"):
        read_file(tmp_path / "link")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(UnsafeFileError, match="link is a symbolic link that leads to itself"):
        read_file(tmp_path / "link")


def test_a_directory_and_a_socket_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsafeFileError, match="is a directory"):
        read_file(tmp_path)
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(UnsafeFileError, match="is a socket"):
            read_file("socket")


def test_a_link_is_followed_where_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    assert read_file(tmp_path / "link") == b"x"
    with pytest.raises(UnsafeFileError, match="link is a symbolic link"):
        read_file(tmp_path / "link", follow_links=False)
