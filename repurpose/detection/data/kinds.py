"""Kinds of detection data: whatever users have becomes `DetectionRows`, rows by number, in one place."""

import os
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from repurpose.detection.data.boxes import judged_truth
from repurpose.detection.data.pictures import as_picture
from repurpose.detection.data.rows import DetectionRow, DetectionRows, DetectionTruth, Picture, size_of
from repurpose.detection.data.targets import objects_of

__all__ = ["detection_rows"]

_KINDS = (
    "VocFolderData, CocoData, torchvision's VOCDetection or CocoDetection, a map-style Dataset of (image, {'boxes', "
    "'labels'}), a list of such pairs, or the tuple (images, targets)"
)


def detection_rows(data: object) -> DetectionRows:
    """Return rows of detection data of any kind: images with the boxes and labels of their objects.

    Parameters
    ----------
    data : VocFolderData, CocoData, Dataset, list of pairs, or (images, targets)
        A map-style Dataset gives (image, target), and so does each pair of a list. A target is a dict of `boxes`
        (n, 4), x1, y1, x2, y2 in pixels (boxes of torchvision's `tv_tensors` in any upright format), `labels` (n,),
        text or whole numbers, and, where some objects are not to count, `ignored` (n,); or what torchvision's
        `VOCDetection` and `CocoDetection` give, of which a crowd or a difficult object is ignored. Images are paths,
        PIL images, arrays (height, width, 3) of uint8, or tensors (3, height, width) of uint8 or of floats from 0 to 1.

    Raises
    ------
    TypeError
        For data of another kind, such as a DataLoader.
    ValueError
        For data without a row. When a row is read: for boxes outside of the image by more than a pixel, empty,
        reversed or not finite, labels that are missing, and images that are normalised; names row and box.

    Examples
    --------
    >>> import torch
    >>> from repurpose.detection import detection_rows
    >>> rows = detection_rows([(torch.zeros(3, 8, 8), {"boxes": torch.tensor([[0, 0, 4, 5]]), "labels": ["cat"]})])
    >>> rows.row(0).boxes, rows.row(0).labels
    (array([[0., 0., 4., 5.]], dtype=float32), array(['cat'], dtype=object))
    """
    if isinstance(data, DetectionRows):
        return data
    if type(data) is Subset:  # of rows whose boxes can be read without their images, as random_split gives it
        rows: DetectionRows = _Chosen(detection_rows(data.dataset), data.indices)
    else:
        rows = _Pairs(_as_pairs(data), _described(data), _category_names(data))
    if not len(rows):
        raise ValueError(f"{rows.described} is empty: there is no row to work on")
    return rows


class _Chosen(DetectionRows):
    """Some of other rows, in an order of their own."""

    def __init__(self, rows: DetectionRows, numbers: Sequence[int]) -> None:
        self._rows = rows
        self._numbers = numbers

    @property
    def described(self) -> str:
        return f"a Subset of {self._rows.described}"

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, number: int) -> DetectionRow:
        return self._rows.row(self._numbers[number])

    def picture(self, number: int) -> Picture:
        return self._rows.picture(self._numbers[number])

    def truth(self, number: int) -> DetectionTruth:
        return self._rows.truth(self._numbers[number])


class _Pairs(DetectionRows):
    """Rows of what has a length and gives (image, target) by number."""

    def __init__(self, pairs: Any, described: str, names: Mapping[Any, str]) -> None:
        self._pairs = pairs
        self._described = described
        self._names = names

    @property
    def described(self) -> str:
        return self._described

    def __len__(self) -> int:
        return len(self._pairs)

    def row(self, number: int) -> DetectionRow:
        name, pair = f"row {number}", self._given(number)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name} of {self.described} must be (image, target), got {_kind(pair)}")
        image = as_picture(pair[0], name)
        boxes, labels, ignored = objects_of(pair[1], name, self._names)
        truth = judged_truth(boxes, labels, ignored, size=size_of(image), name=name)
        return DetectionRow(image, truth.boxes, truth.labels, truth.ignored, name)

    def picture(self, number: int) -> Picture:
        given = self._given(number)
        # with a target of any kind, of which nothing is read, or alone
        return as_picture(given[0] if isinstance(given, (tuple, list)) and len(given) else given, f"row {number}")

    def _given(self, number: int) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no row {number}: {self.described} has {len(self)}")
        return self._pairs[number]


class _Zipped(Sequence):
    """The pairs of images and targets."""

    def __init__(self, images: Any, targets: Any) -> None:
        if len(images) != len(targets):
            raise ValueError(f"{len(images)} images need as many targets, got {len(targets)}")
        self._images = images
        self._targets = targets

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: Any) -> Any:
        return self._images[number], self._targets[number]


def _as_pairs(data: Any) -> Any:
    """Return what gives pairs by number. Raises TypeError for other kinds, with what to give instead."""
    if isinstance(data, DataLoader):
        raise TypeError(
            "a DataLoader has put images and boxes into batches of one shape: give its dataset, loader.dataset"
        )
    if isinstance(data, IterableDataset):
        raise TypeError("an IterableDataset has no rows by number, which boxes are looked up by: give list(dataset)")
    if isinstance(data, (str, os.PathLike)):
        raise TypeError(
            f"a path alone, {os.fspath(data)!r}, does not say where the boxes are: give VocFolderData(root, split) or "
            "CocoData(annotations, images)"
        )
    if isinstance(data, tuple) and len(data) == 2 and not _is_pair(data[0]) and isinstance(data[1], (list, tuple)):
        return _Zipped(*data)
    if isinstance(data, (list, tuple, Dataset)) or (hasattr(data, "__getitem__") and not isinstance(data, Mapping)):
        if not isinstance(data, Sized):
            raise TypeError(f"{type(data).__name__} has no length: give it a __len__ that says how many rows it has")
        return data
    raise TypeError(f"boxes cannot be read from {_kind(data)}; give {_KINDS}")


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], (Mapping, list))


def _described(data: object) -> str:
    return "the list" if isinstance(data, (list, tuple)) else f"the {type(data).__name__}"


def _kind(value: object) -> str:
    beside = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{beside}"


def _category_names(data: object) -> dict[Any, str]:
    """Return the names of COCO's categories by their ids, also of joined datasets; {} where there are none."""
    if isinstance(data, ConcatDataset):
        found = [_category_names(part) for part in data.datasets]
        return found[0] if all(names == found[0] for names in found) else {}
    if isinstance(data, Subset):  # within joined ones
        return _category_names(data.dataset)
    categories = getattr(getattr(data, "coco", None), "cats", None)
    known = categories if isinstance(categories, Mapping) else {}
    return {key: category["name"] for key, category in known.items()}
