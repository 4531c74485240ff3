"""File locks, which the operating system releases when a process ends, however it ends."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "try_lock"]

_SECONDS_BETWEEN = 0.01


if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Lock the open file exclusively until the handle is closed, and tell whether that was possible at once."""
        try:
            # One byte stands for the file: Windows locks ranges of bytes.
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Lock the open file exclusively until the handle is closed, and tell whether that was possible at once."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing and stays.

    Raises TimeoutError where another holds it for so many seconds, OSError where the file cannot be made.
    """
    until = time.monotonic() + seconds  # the wall clock may be set while we wait
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        while not try_lock(handle):
            if time.monotonic() > until:
                raise TimeoutError(f"{path} has been locked by another writer for {seconds:g} seconds")
            time.sleep(_SECONDS_BETWEEN)
        yield
    finally:
        os.close(handle)
