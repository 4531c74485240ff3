"""Atomic writes: a file is written as a whole or not at all, and is synced to the disk when the call returns.

A file is written beside its place under a name of its own, synced, and renamed. A writer holds a lock on what it
writes; so what a killed one left behind is known by nobody's lock, and goes when the same file is next written.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from model_handler.files.locks import try_lock

__all__ = ["Piece", "remove_left_behind", "write_whole"]

Piece = bytes | bytearray | memoryview
_WRITING = ".writing-"
_OPEN_FILES_STAY = _REFUSAL_PASSES = os.name == "nt"  # there, what is open, by a scanner too, cannot be renamed
_TRIES, _SECONDS_BETWEEN = 20, 0.05


def write_whole(path: str | os.PathLike, pieces: Iterable[Piece]) -> None:
    """Write a file of these pieces, one behind the other; one that is there is replaced, and may be read as before.

    A new file may be read by whom the umask lets. Behind a symbolic link, the file that it leads to is written.

    Raises OSError, naming the path and what it needs, where it cannot be written; what was there stays.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, f"{target} is no file, and is not replaced by one")
    remove_left_behind(target.parent, escape(target.name))
    fresh = target
    try:
        fresh, handle = _create_locked(target)
        try:
            _write(handle, pieces)
            if target.exists():
                fresh.chmod(stat.S_IMODE(target.stat().st_mode))
            if not _OPEN_FILES_STAY:  # before the lock is given back, or another writer takes it for left behind
                _replace(fresh, target)
        finally:
            os.close(handle)
        if _OPEN_FILES_STAY:
            _replace(fresh, target)
    except OSError as error:
        raise type(error)(error.errno, _failure(target, fresh, error)) from error
    finally:
        if fresh != target:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
    _sync_directory(target.parent)


def remove_left_behind(folder: Path, name: str) -> None:
    """Remove what killed writers left of files of this name, in which ``*`` stands for anything."""
    with suppress(OSError):
        for file in folder.glob(f".{name}{_WRITING}*"):
            with suppress(OSError):
                _remove_unless_locked(file)


def _create_locked(target: Path) -> tuple[Path, int]:
    """Create a file beside the target, locked, so that other writers see that it is not left behind."""
    while True:
        fresh = target.with_name(f".{target.name}{_WRITING}{uuid4().hex[:12]}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            is_ours = try_lock(handle)
        except OSError:  # a file system without locks, where nothing is taken for left behind either
            is_ours = True
        if is_ours and fresh.exists():
            return fresh, handle
        os.close(handle)  # another writer locked it between the two steps, to remove it


def _sync_directory(folder: Path) -> None:
    """Have the names in a directory written to the disk, where the system knows how."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(handle: int, pieces: Iterable[Piece]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:  # the system may take less than it was given
            view = view[os.write(handle, view) :]
    os.fsync(handle)  # before the renaming: after a power cut, the name could stand for an empty file


def _replace(fresh: Path, target: Path) -> None:
    for attempt in range(_TRIES):
        try:
            os.replace(fresh, target)
            return
        except PermissionError:
            if not _REFUSAL_PASSES or attempt == _TRIES - 1:
                raise
            time.sleep(_SECONDS_BETWEEN)


def _remove_unless_locked(file: Path) -> None:
    handle = os.open(file, os.O_RDWR)
    try:
        if try_lock(handle):
            file.unlink()
    finally:
        os.close(handle)


def _failure(target: Path, fresh: Path, error: OSError) -> str:
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with suppress(OSError):
            written = fresh.stat().st_size
            free = shutil.disk_usage(target.parent).free
            said += f"; {written:,} bytes were written before, and {free:,} are free there now"
    return f"{target} cannot be written: {said}"
