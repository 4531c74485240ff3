"""The store keeps features in a directory, one file an extraction, written as a whole and bounded in size together.

Files are those of `files.array_files`: arrays and JSON, with hashes that reveal damage; nothing in them is executed.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.data.batch import labels_or_missing
from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.array_files import read_arrays, write_arrays
from model_handler.files.whole_files import make_folder, remove_left_behind
from model_handler.user_warnings import warn_user

__all__ = ["MOST_BYTES", "Entry", "FeatureStore"]

MOST_BYTES = 10 * 10**9  # of all files of a directory together: what was used least recently goes first
_FORMAT = 1
_SUFFIX = ".features"
_NAME = re.compile(rf"[0-9a-f]{{64}}\{_SUFFIX}")
_MATRIX, _LABELS = "matrix", "labels"

Shapes = list[Any]  # of inputs: [kind, shape of a row] or [kind, [name or None, shape of a row], ...]


@dataclass(frozen=True, eq=False)
class Entry:
    """Features as they are kept: `matrix` (n_rows, n_features) in float32, and the number of features of each layer.

    `shapes` has the shapes of rows of the inputs that they were computed of; `labels` only those of data that nothing
    but a key is known of.
    """

    matrix: np.ndarray
    widths: list[int]
    shapes: list[Shapes]
    labels: np.ndarray | None


class FeatureStore:
    """The features in a directory; what goes wrong with it is a warning, and never an error."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self, key: str, n_layers: int) -> Entry | None:
        """Return the entry of that key, None where there is none that can be read; it counts as used now."""
        path = self._path(key)
        try:
            file = read_arrays(path)
            entry = _entry(file.arrays, file.content, n_layers)
        except (FileNotFoundError, NotADirectoryError):  # writing will say what is the matter with the folder
            return None
        except (OSError, CorruptFileError, UnsafeFileError) as error:
            warn_user(f"features in {self.folder} cannot be read, and are computed again: {error}")
            return None
        with suppress(OSError):
            os.utime(path)
        return entry

    def write(self, key: str, entry: Entry) -> None:
        """Keep an entry, in place of one that is there; others go where all together are too large.

        One that is too large alone is not kept, and costs no other its place.
        """
        if entry.matrix.nbytes > MOST_BYTES:
            size = f"{entry.matrix.nbytes:,} bytes are more than the {MOST_BYTES:,}"
            warn_user(f"features could not be kept in {self.folder}: {size} that it may hold")
            return
        labels, arrays = entry.labels, {_MATRIX: entry.matrix}
        if labels is not None and labels.dtype.kind in "biuf":
            arrays[_LABELS] = labels
        texts = None if labels is None or _LABELS in arrays else labels.tolist()
        content = {"feature_cache": _FORMAT, "widths": entry.widths, "shapes": entry.shapes, "labels": texts}
        try:
            make_folder(self.folder)
            write_arrays(self._path(key), arrays, content)
            self._make_room(self._path(key))
        except OSError as error:
            warn_user(f"features could not be kept in {self.folder}: {error}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, newest: Path) -> None:
        remove_left_behind(self.folder, "")
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            if _NAME.fullmatch(path.name) and path != newest:
                with suppress(FileNotFoundError):  # another process may be making room too
                    found = path.stat()
                    files.append((found.st_mtime, found.st_size, path))
        n_bytes = sum(size for _, size, _ in files)
        with suppress(FileNotFoundError):
            n_bytes += newest.stat().st_size
        for _, size, path in sorted(files):
            if n_bytes <= MOST_BYTES:
                break
            path.unlink(missing_ok=True)
            n_bytes -= size


def _entry(arrays: dict[str, np.ndarray], content: Any, n_layers: int) -> Entry:
    """Return the entry that a file holds. Raises CorruptFileError for a file that holds none of so many layers."""
    try:
        matrix, widths, shapes, texts = arrays[_MATRIX], *(content[part] for part in ("widths", "shapes", "labels"))
        labels = labels_or_missing(texts) if texts is not None else arrays.get(_LABELS)
        fits = content["feature_cache"] == _FORMAT and matrix.dtype == np.float32 and matrix.ndim == 2
        whole = sum(widths) == matrix.shape[1] and min(widths) >= 0 and len(widths) == n_layers
        if not (fits and whole and isinstance(shapes, list) and (labels is None or len(labels) == len(matrix))):
            raise ValueError("its parts do not fit")
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"the file of cached features is damaged ({error})") from error
    return Entry(matrix, widths, shapes, labels)
