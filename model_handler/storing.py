"""Storing arrays: safetensors files that others may read as far as the umask lets them."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["store_arrays"]


def store_arrays(
    arrays: Mapping[str, np.ndarray], path: str | os.PathLike, notes: dict[str, str] | None = None
) -> None:
    """Write arrays, and notes of text, to the safetensors file `path`; one that is there is replaced.

    safetensors writes to a temporary file, which only its owner may read, and renames it. So the file is first made as
    any other is, and what it lets others do is given to the one that takes its place. Raises OSError where nothing can
    be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    file = Path(path)
    is_new = not file.exists()
    with file.open("ab"):
        mode = stat.S_IMODE(file.stat().st_mode)
    try:
        save_file(dict(arrays), file, notes)
        file.chmod(mode)
    except BaseException as error:
        if is_new:
            file.unlink(missing_ok=True)
        if isinstance(error, SafetensorError):  # a full disk
            raise OSError(f"{file} cannot be written: {error}") from error
        raise
