"""Reading regular files, and nothing else: no named pipe that blocks for ever, no device without an end."""

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_handler.errors import CorruptFileError, UnsafeFileError

__all__ = ["map_file", "read_beginning", "read_file"]

_AT_ONCE = 1 << 24  # bytes asked of the system in one call
# Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_file(path: str | os.PathLike, *, most_bytes: int | None = None, follow_links: bool = True) -> bytearray:
    """Return the bytes of a regular file.

    Parameters
    ----------
    path : str or path
        The file.
    most_bytes : int, optional
        A file that is larger is refused before it is read.
    follow_links : bool
        Whether a symbolic link stands for the file that it leads to; otherwise it is refused.

    Raises
    ------
    FileNotFoundError
        Where there is nothing at `path`.
    UnsafeFileError
        For a directory, a pipe, a device, a socket, or a link where none is followed.
    CorruptFileError
        For a file that is larger than `most_bytes` or the memory, or changes its size while it is read.
    """
    path = Path(path)
    with _regular(path, follow_links) as (handle, size):
        if most_bytes is not None and size > most_bytes:
            raise CorruptFileError(f"{path} has {size:,} bytes, where at most {most_bytes:,} were expected")
        return _read(handle, size, path)


def map_file(path: str | os.PathLike) -> memoryview:
    """Return the bytes of a regular file, read-only, which the system reads when they are looked at.

    They may be more than the memory holds. Raises FileNotFoundError and UnsafeFileError as `read_file` does.
    """
    with _regular(Path(path), follow_links=True) as (handle, size):
        # An empty file cannot be mapped.
        return memoryview(mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else b"")


def read_beginning(path: str | os.PathLike, n_bytes: int, *, follow_links: bool = True) -> bytes:
    """Return the first bytes of a regular file, fewer where it is shorter. Raises errors as `read_file` does."""
    with _regular(Path(path), follow_links) as (handle, _):
        return os.read(handle, n_bytes)


@contextmanager
def _regular(path: Path, follow_links: bool) -> Iterator[tuple[int, int]]:
    """Open a regular file, and give the handle and the size in bytes."""
    if not follow_links and path.is_symlink():
        raise UnsafeFileError(f"{path} is a symbolic link, where a file of its own was expected")
    handle = _opened(path, _FLAGS if follow_links else _FLAGS | getattr(os, "O_NOFOLLOW", 0))
    try:
        info = os.fstat(handle)  # of what was opened, which another could have put there since a look at the path
        if not stat.S_ISREG(info.st_mode):
            kind = _KINDS.get(stat.S_IFMT(info.st_mode), "no file")
            raise UnsafeFileError(f"{path} is {kind}, where a file was expected")
        yield handle, info.st_size
    finally:
        os.close(handle)


def _opened(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except (NotADirectoryError, IsADirectoryError, ValueError) as error:  # ValueError: a null byte in the name
        raise UnsafeFileError(f"{path} is no path of a file: {error}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeFileError(
                f"{path} is a symbolic link that leads to itself, or is not to be followed"
            ) from error
        if path.is_dir():  # as Windows says it
            raise UnsafeFileError(f"{path} is a directory, where a file was expected") from error
        if not error.args or path.is_socket():
            raise UnsafeFileError(f"{path} is a socket, where a file was expected") from error
        raise type(error)(error.errno, f"{path} cannot be opened: {error.strerror}") from error


def _read(handle: int, size: int, path: Path) -> bytearray:
    try:
        data = bytearray(size)
    except (MemoryError, OverflowError):
        raise CorruptFileError(f"{path} has {size:,} bytes, for which there is no memory") from None
    view, done = memoryview(data), 0
    # A duplicate, since the file object closes its handle and the caller closes the other.
    with os.fdopen(os.dup(handle), "rb", buffering=0) as file:
        while done < size:
            n_read = file.readinto(view[done : done + _AT_ONCE])
            if not n_read:
                raise CorruptFileError(f"{path} became shorter while it was read")
            done += n_read
        if file.read(1):
            raise CorruptFileError(f"{path} became longer while it was read")
    return data
