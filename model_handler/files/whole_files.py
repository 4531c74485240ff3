"""Atomic writes: a file is written as a whole or not at all, and is synced to the disk when the call returns.

A file is written beside its place under a name of its own, synced, and renamed. A writer holds a lock on what it
writes; so what a killed one left behind is known by nobody's lock, and goes when the same file is next written.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from uuid import uuid4

from model_handler.files.locks import SECONDS_WITHOUT_LOCKS, NoLocksError, try_lock
from model_handler.files.write_errors import writing

__all__ = ["Piece", "is_being_written", "make_folder", "remove_left_behind", "write_whole"]

Piece = bytes | bytearray | memoryview
_WRITING = ".writing-"
_BEING_WRITTEN = re.compile(rf"\.(.*)\{_WRITING}[0-9a-f]{{12}}")
_OPEN_FILES_STAY = _REFUSAL_PASSES = os.name == "nt"  # there, what is open, by a scanner too, cannot be renamed
_TRIES, _SECONDS_BETWEEN = 20, 0.05
_LOST = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EIO)  # not that directories cannot be synced


def write_whole(path: str | os.PathLike, pieces: Iterable[Piece], *, follow_links: bool = True) -> None:
    """Write a file of these pieces, one behind the other; one that is there is replaced, and may be read as before.

    A new file may be read by whom the umask lets. Behind a symbolic link, the file that it leads to is written; without
    `follow_links`, the link is replaced, and where it leads to is left alone.

    Raises OSError, naming the path and, on a full disk, the bytes needed and free, where it cannot be written; what was
    there stays.
    """
    target = Path(os.path.realpath(path))
    if not follow_links:
        target = Path(os.path.realpath(Path(path).parent), Path(path).name)
    if not target.is_symlink() and target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, f"{target} is no file, and is not replaced by one")
    remove_left_behind(target.parent, target.name)
    views, sizes = (memoryview(piece) for piece in pieces), [0]
    with writing(target, lambda: sum(sizes) + sum(view.nbytes for view in views)):
        while not _try_to_write(target, views, sizes):
            pass
        _sync_directory(target.parent)


def make_folder(folder: Path) -> None:
    """Make a directory, and those above it, where it is missing. Raises OSError as `write_whole` does."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def is_being_written(name: str, beginning: str = "") -> bool:
    """Tell whether a file of this name is one that `write_whole` is at, or was, for one whose name begins like this."""
    match = _BEING_WRITTEN.fullmatch(name)
    return match is not None and match[1].startswith(beginning)


def remove_left_behind(folder: Path, beginning: str) -> None:
    """Remove what killed writers left of files whose names begin like this."""
    with suppress(OSError):
        for file in folder.iterdir():
            if is_being_written(file.name, beginning):
                with suppress(OSError):
                    _remove_if_left_behind(file)


def _try_to_write(target: Path, views: Iterable[memoryview], sizes: list[int]) -> bool:
    """Write a file beside the target and put it there, noting the sizes of pieces; False where that is to be repeated.

    It is locked, so that other writers see that it is not left behind.
    """
    fresh = target.with_name(f".{target.name}{_WRITING}{uuid4().hex[:12]}")
    try:
        # An object and no mere number, so that no interruption leaves it open, and locked.
        with fresh.open("xb", buffering=0) as file:
            with suppress(NoLocksError):
                if not try_lock(file.fileno()) or not fresh.exists():
                    return False  # another writer locked it between the two steps, to remove it
            _write(file, views, sizes)
            if not target.is_symlink():
                with suppress(FileNotFoundError):  # there is none, or another process has just removed it
                    fresh.chmod(stat.S_IMODE(target.stat().st_mode))
            if not _OPEN_FILES_STAY:  # before the lock is given back, or another writer takes it for left behind
                _replace(fresh, target)
        if _OPEN_FILES_STAY:
            _replace(fresh, target)
        return True
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _write(file: FileIO, views: Iterable[memoryview], sizes: list[int]) -> None:
    for view in views:
        sizes.append(view.nbytes)
        while view:  # the system may take less than it was given
            view = view[file.write(view) :]
    os.fsync(file.fileno())  # before the renaming: after a power cut, the name could stand for an empty file


def _sync_directory(folder: Path) -> None:
    """Have the names in a directory written to the disk, where the system knows how."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in _LOST:
            raise


def _replace(fresh: Path, target: Path) -> None:
    for attempt in range(_TRIES):
        try:
            os.replace(fresh, target)
            return
        except PermissionError:
            if not _REFUSAL_PASSES or attempt == _TRIES - 1:
                raise
            time.sleep(_SECONDS_BETWEEN)


def _remove_if_left_behind(file: Path) -> None:
    """Remove a file that nobody has locked or, without locks, that nobody has written to for long."""
    with file.open("r+b", buffering=0) as opened:
        try:
            is_left = try_lock(opened.fileno())
        except NoLocksError:
            is_left = time.time() - os.fstat(opened.fileno()).st_mtime > SECONDS_WITHOUT_LOCKS
        if is_left and not _OPEN_FILES_STAY:  # under the lock: who has just made it sees that it is gone
            file.unlink()
    if is_left and _OPEN_FILES_STAY:
        file.unlink()
