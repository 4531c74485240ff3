"""Augmentation changes training images at random, and carries the boxes along.

What a transform of torchvision's `v2` does to an image it does to boxes of `tv_tensors` too; here they are made such
boxes, clipped to the new image, and dropped, with their labels, where little is left of them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from repurpose.detection.data.boxes import box_array
from repurpose.detection.data.pictures import as_picture
from repurpose.detection.data.rows import DetectionRow, size_of

__all__ = ["Augmentation", "augmentation_mistakes", "augmented", "chosen_augmentation"]

Augmentation: TypeAlias = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]
_SMALLEST_SIDE = 1.0  # pixels of a box that is kept, as in torchvision's SanitizeBoundingBoxes
_SHIFT = 8  # an image is shifted by up to an eighth of its sides
_OF_IMAGES_ALONE = "torchvision.transforms.transforms"
_WANTED = "a transform of torchvision.transforms.v2, or another callable from (image, target) to (image, target)"


def augmentation_mistakes(augmentation: object) -> list[str]:
    """List what is wrong with the parameter: a callable from (image, target) to both, "auto" or None."""
    if isinstance(augmentation, type):
        return [f"augmentation must be a transform, got its class; write {augmentation.__name__}(...)"]
    if type(augmentation).__module__ == _OF_IMAGES_ALONE:
        name = type(augmentation).__name__
        return [f"torchvision.transforms.{name} moves no boxes; give torchvision.transforms.v2.{name}"]
    if augmentation is None or callable(augmentation) or augmentation == "auto":
        return []
    return [f'augmentation must be {_WANTED}, "auto" or None, got {augmentation!r}']


def chosen_augmentation(augmentation: Augmentation | str | None) -> Augmentation | None:
    """Return the augmentation given, or for "auto" a shift by up to an eighth of the sides, and half the time a flip.

    Flips are wrong for objects whose mirror image is another, such as letters.
    """
    return _shifted_and_flipped if isinstance(augmentation, str) else augmentation


def augmented(row: DetectionRow, augmentation: Augmentation) -> DetectionRow:
    """Return the row with its image changed at random, by torch's generator, and its boxes with it.

    `augmentation` is called with the image, as `tv_tensors.Image` or PIL image, and a dict of `boxes`, as
    `tv_tensors.BoundingBoxes`, and `labels`, their numbers. Boxes are clipped to the new image; those with a side of
    less than a pixel are dropped. Raises TypeError if it returns something else.

    Examples
    --------
    >>> import numpy as np
    >>> from torchvision.transforms import v2
    >>> from repurpose.detection import detection_rows
    >>> from repurpose.detection.data import augmented
    >>> row = detection_rows([(np.zeros((8, 8, 3), np.uint8), {"boxes": [[0, 0, 3, 5]], "labels": ["cat"]})]).row(0)
    >>> augmented(row, v2.RandomHorizontalFlip(p=1)).boxes
    array([[5., 0., 8., 5.]], dtype=float32)
    """
    from torchvision import tv_tensors

    given = tv_tensors.Image(row.image) if isinstance(row.image, Tensor) else row.image
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(row.boxes.copy()), format="XYXY", canvas_size=row.size)
    result = augmentation(given, {"boxes": boxes, "labels": torch.arange(len(row.boxes))})
    is_pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
    if not (is_pair and {"boxes", "labels"} <= result[1].keys()):
        raise TypeError(f"augmentation must be {_WANTED}, with its boxes and labels, and returned {_kind(result)}")
    image = as_picture(result[0], f"{row.name}, augmented,")
    moved, numbers = box_array(result[1]["boxes"], row.name), np.asarray(result[1]["labels"], dtype=np.int64)
    if len(moved) != len(numbers):
        raise TypeError(f"the augmentation returned {len(moved)} boxes and {len(numbers)} labels")
    height, width = size_of(image)
    clipped = np.clip(moved, 0, [width, height, width, height]).astype(np.float32)
    kept = (clipped[:, 2:] - clipped[:, :2] >= _SMALLEST_SIDE).all(axis=1)
    return DetectionRow(image, clipped[kept], row.labels[numbers[kept]], row.ignored[numbers[kept]], row.name)


def _shifted_and_flipped(image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from torchvision.transforms import v2

    height, width = target["boxes"].canvas_size
    margins = [max(1, width // _SHIFT), max(1, height // _SHIFT)]
    # Black, since an edge drawn out would carry what lies there beyond its box.
    return v2.Compose([v2.Pad(margins), v2.RandomCrop((height, width)), v2.RandomHorizontalFlip()])(image, target)


def _kind(value: object) -> str:
    beside = f" of {', '.join(type(part).__name__ for part in value)}" if isinstance(value, tuple) else ""
    return f"{type(value).__name__}{beside}"
