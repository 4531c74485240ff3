"""Pictures to find objects in: of a folder, of files, arrays and tensors, or of data that have boxes."""

from collections.abc import Callable, Iterator, Sized
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from model_handler import ImageFolderData
from repurpose.detection.data import DetectionRows, as_picture, detection_rows
from repurpose.detection.data.rows import DetectionRow, DetectionTruth, Picture

__all__ = ["Pictures", "ShownRows"]


class Pictures:
    """The pictures of any data, by number; true boxes in the data are not looked at.

    Parameters
    ----------
    data : path of an image or a folder, one image, a sequence of images, or as `detection_rows` takes it
        An image is a path, a PIL image, an array (height, width, 3) of uint8, or a tensor (3, height, width); a tensor
        (n, 3, height, width) is n of them.

    Raises
    ------
    TypeError, ValueError
        For data of another kind, or without a picture.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection.pictures import Pictures
    >>> pictures = Pictures([np.zeros((8, 6, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)])
    >>> [picture.size for picture in pictures]
    [(6, 8), (5, 5)]
    """

    def __init__(self, data: object) -> None:
        self._read, self._n_rows = _reader(data)
        if not self._n_rows:
            raise ValueError("there is no picture to find objects in: the data are empty")

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[Picture]:
        return (self._read(number) for number in range(self._n_rows))


class ShownRows(DetectionRows):
    """Rows that note the true boxes of each picture that they show: a random dataset has others at each reading."""

    def __init__(self, rows: DetectionRows) -> None:
        self._rows = rows
        self._shown: dict[int, DetectionTruth] = {}

    @property
    def described(self) -> str:
        return self._rows.described

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> DetectionRow:
        row = self._rows.row(number)
        self._shown[number] = row.truth
        return row

    def truth(self, number: int) -> DetectionTruth:
        """Return the objects of the picture that was shown last, or read them where none was."""
        return self._shown[number] if number in self._shown else self._rows.truth(number)


def _reader(data: Any) -> tuple[Callable[[int], Picture], int]:
    if isinstance(data, (str, PathLike)) and Path(data).is_dir():
        paths = ImageFolderData(Path(data)).paths
        return (lambda number: as_picture(paths[number], str(paths[number]))), len(paths)
    if _is_one(data):
        return (lambda number: as_picture(data, "the image")), 1
    if isinstance(data, DetectionRows) or not _has_pictures_alone(data):
        rows = detection_rows(data)
        return rows.picture, len(rows)
    return (lambda number: as_picture(data[number], f"image {number}")), len(data)


def _is_one(data: Any) -> bool:
    if isinstance(data, (str, PathLike)) or type(data).__module__.startswith("PIL."):
        return True
    return getattr(data, "ndim", None) in (2, 3) and not isinstance(data, (list, tuple))


def _has_pictures_alone(data: Any) -> bool:
    """Tell whether this is a sequence of images, and not of pairs of an image and its boxes."""
    if isinstance(data, Tensor) or getattr(data, "ndim", None) == 4:
        return True
    return isinstance(data, (list, tuple)) and isinstance(data, Sized) and bool(data) and _is_one(data[0])
