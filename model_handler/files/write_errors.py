"""Errors of writing name the path, the reason and, on a full disk, how many bytes it takes and how many are free."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["writing"]

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def writing(path: Path, n_bytes: Callable[[], int] | None = None) -> Iterator[None]:
    """Write to `path` inside this block: its OSErrors name it and, on a full disk, the bytes needed and those free.

    `n_bytes` counts all that was to be written, where that is known.
    """
    try:
        yield
    except OSError as error:
        text = f"{path} cannot be written: {error.strerror or error}"
        if error.errno in _FULL:
            text += _room(path, n_bytes)
        raise (OSError(text) if error.errno is None else OSError(error.errno, text)) from error


def _room(path: Path, n_bytes: Callable[[], int] | None) -> str:
    """Return what it needs and what is free there, as far as the system tells."""
    said = "" if n_bytes is None else f"; it needs {n_bytes():,} bytes"
    with suppress(OSError, StopIteration):
        above = next(folder for folder in path.absolute().parents if folder.is_dir())
        said += f"; {shutil.disk_usage(above).free:,} bytes are free there"
    return said
