"""File locks, which the operating system releases when a process ends, however it ends."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from model_handler.files.write_errors import writing

__all__ = ["SECONDS_WITHOUT_LOCKS", "NoLocksError", "locked", "try_lock"]

SECONDS_WITHOUT_LOCKS = 3600.0  # after which a file is left behind where no lock tells whether it is
_SECONDS_BETWEEN = 0.01
_log = logging.getLogger(__name__)


class NoLocksError(OSError):
    """A file system without locks, as of network servers that keep none: each says it by another error."""


if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Lock the open file exclusively until the handle is closed, and tell whether that was possible at once."""
        try:
            # The byte at the handle's place stands for the file, which is the first one since it was just opened.
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError as error:
            raise NoLocksError(error.errno, f"it cannot be locked: {error.strerror}") from error
        return True

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Lock the open file exclusively until the handle is closed, and tell whether that was possible at once.

        Raises NoLocksError where the file system has none.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise NoLocksError(error.errno, f"it cannot be locked: {error.strerror}") from error
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is missing and stays, and tell whether it keeps others out.

    On a file system without locks it does not, and a warning is logged: shared folders are written to from one place.

    Raises TimeoutError where another holds it for so many seconds, OSError where the file cannot be made.
    """
    until = time.monotonic() + seconds  # the wall clock may be set while we wait
    with writing(path):
        file = FileIO(path, "r+", opener=_made)  # an object, so that no interruption leaves it open
    with file:
        excludes = _wait_for_lock(file.fileno(), path, until, seconds)
        try:
            yield excludes
        finally:
            if excludes:  # closing is not enough while a process that was forked meanwhile has the file open too
                _unlock(file.fileno())


def _made(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _wait_for_lock(handle: int, path: Path, until: float, seconds: float) -> bool:
    """Wait for the lock; False where the file system has none."""
    try:
        while not try_lock(handle):
            if time.monotonic() > until:
                raise TimeoutError(f"{path} has been locked by another writer for {seconds:g} seconds")
            time.sleep(_SECONDS_BETWEEN)
    except NoLocksError as error:
        _log.warning("%s: writers do not exclude each other here, so let one write at a time (%s)", path, error)
        return False
    return True
