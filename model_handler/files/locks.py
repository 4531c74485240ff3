"""Locks on open files, which the system takes back when a process ends, however it ends."""

import sys

__all__ = ["try_lock"]


if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Lock the open file for this handle alone until it is closed; whether that was possible at once."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Lock the open file for this handle alone until it is closed; whether that was possible at once."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
