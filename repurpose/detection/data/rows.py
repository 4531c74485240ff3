"""Rows of detection data: an image, and the boxes and names of the objects in it, by number.

Every kind of data that users have becomes `DetectionRows` in `kinds`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

__all__ = ["DetectionRow", "DetectionRows", "DetectionTruth", "Picture", "size_of"]

Picture: TypeAlias = Any  # a PIL image in RGB, or a tensor (3, height, width), uint8 or float32 from 0 to 1


@dataclass(frozen=True, eq=False)
class DetectionTruth:
    """The objects in one image, without the image; no object at all has arrays of length 0.

    Attributes
    ----------
    boxes : float32 ndarray of shape (n, 4)
        x1, y1, x2, y2 in pixels, within the image, x1 < x2 and y1 < y2.
    labels : ndarray of shape (n,), dtype object
        Names of classes, text or whole numbers.
    ignored : bool ndarray of shape (n,)
        Objects marked as difficult (VOC) or as a crowd (COCO): not trained on, and not counted in an evaluation.
    size : (int, int)
        Height and width of the image in pixels.
    name : str
        What errors call the row.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import detection_rows
    >>> pairs = [(np.zeros((8, 8, 3), np.uint8), {"boxes": [[0, 0, 4, 5]], "labels": ["cat"]})]
    >>> truth = detection_rows(pairs).truth(0)
    >>> truth.size, truth.boxes.tolist(), truth.labels.tolist(), truth.ignored.tolist()
    ((8, 8), [[0.0, 0.0, 4.0, 5.0]], ['cat'], [False])
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    size: tuple[int, int]
    name: str = ""


@dataclass(frozen=True, eq=False)
class DetectionRow:
    """One image and the objects in it; `image` is a PIL image in RGB, or a tensor (3, height, width).

    A tensor is uint8, or float32 from 0 to 1. All else is as in `DetectionTruth`.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import detection_rows
    >>> row = detection_rows([(np.zeros((6, 8, 3), np.uint8), {"boxes": [], "labels": []})]).row(0)
    >>> row.image.size, row.size, row.boxes.shape
    ((8, 6), (6, 8), (0, 4))
    """

    image: Picture
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return size_of(self.image)

    @property
    def truth(self) -> DetectionTruth:
        """The row without its image."""
        return DetectionTruth(self.boxes, self.labels, self.ignored, self.size, self.name)


class DetectionRows(ABC):
    """Rows by number, from 0; `described` is what errors call the data.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import detection_rows
    >>> rows = detection_rows([(np.zeros((6, 8, 3), np.uint8), {"boxes": [], "labels": []})])
    >>> len(rows), rows.described, rows.row(0).name
    (1, 'the list', 'row 0')
    """

    @property
    @abstractmethod
    def described(self) -> str:
        """What errors call the data."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    @abstractmethod
    def row(self, number: int) -> DetectionRow:
        """Read one row. Raises ValueError naming it and the box for what cannot be used, IndexError beyond the last."""

    def picture(self, number: int) -> Picture:
        """Read the image of one row, whatever its objects are. Raises for the image as `row` does."""
        return self.row(number).image

    def truth(self, number: int) -> DetectionTruth:
        """Read the objects of one row, without decoding its image where the data has them beside it."""
        return self.row(number).truth

    def truths(self) -> Iterator[DetectionTruth]:
        """Read the objects of all rows, in order."""
        return (self.truth(number) for number in range(len(self)))


def size_of(image: Picture) -> tuple[int, int]:
    """Return height and width of an image."""
    if isinstance(image, Tensor):
        return int(image.shape[-2]), int(image.shape[-1])
    width, height = image.size
    return height, width
