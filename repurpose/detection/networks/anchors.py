"""Anchors: the boxes that RetinaNet and Faster R-CNN start from, of sizes that the boxes to be learned have.

FCOS has one place for each element of a map instead, as large as the stride, and a range of sizes for each level.
"""

from collections.abc import Sequence

import numpy as np
from torchvision.models.detection.anchor_utils import AnchorGenerator

from model_handler.user_warnings import warn_user

__all__ = ["anchors_for", "places", "warn_of_thin_boxes"]

_LEAST_SIDE = 4.0  # pixels: torchvision rounds anchors to whole ones
_LEAST_RATIO = 2 ** (1 / 3)
_ASPECT_RATIOS = (0.5, 1.0, 2.0)
_TO_STRIDE = 4  # where no boxes are known: 32 pixels at a stride of 8 (Lin et al., 2017, arXiv:1708.02002)
_RANGE = 8  # of FCOS: a level has the places whose farthest side is less than 8 strides away


def anchors_for(boxes: np.ndarray | None, strides: Sequence[float], scales: int) -> AnchorGenerator:
    """Make anchors of three aspect ratios and some `scales` a level.

    The sizes are even steps, by their logarithms, from the 5 % to the 95 % quantile of sqrt(width x height) of the
    boxes, the smallest at the finest level, so that each box has one nearby, however many there are of its size. Of no
    boxes they are four strides.

    Parameters
    ----------
    boxes : array of shape (n, 2) or None
        Width and height in pixels of the images as the network sees them.
    strides : sequence of float
        Of the levels, the finest first.
    scales : int
        How many sizes a level has, from its own towards that of the next.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection.networks.anchors import anchors_for
    >>> anchors_for(np.full((10, 2), [20, 80]), [8, 16], scales=1).sizes
    ((40.0,), (50.4,))
    """
    if boxes is None or not len(boxes):
        first, ratio = _TO_STRIDE * strides[0], 2.0
    else:
        sides = np.sqrt(np.prod(np.asarray(boxes, dtype=np.float64), axis=1))
        low, high = np.maximum(np.quantile(sides, [0.05, 0.95]), _LEAST_SIDE)
        first, ratio = float(low), max(float(high / low) ** (1 / max(len(strides) - 1, 1)), _LEAST_RATIO)
    sizes = tuple(
        tuple(round(first * ratio ** (level + scale / scales), 1) for scale in range(scales))
        for level in range(len(strides))
    )
    return AnchorGenerator(sizes, (_ASPECT_RATIOS,) * len(sizes))


def places(strides: Sequence[float]) -> AnchorGenerator:
    """Make the places of FCOS: one for each element of a map, a square as large as its stride."""
    return AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))


def warn_of_thin_boxes(boxes: np.ndarray, strides: Sequence[float]) -> None:
    """Give a UserWarning where more than one box in a hundred may lie between the places of its level in FCOS.

    `boxes` (n, 2) are width and height in pixels as the network sees them. A box belongs to the first level of which 8
    strides are more than half its long side, and has a place in it for certain where its short side is a stride.
    """
    if not len(boxes):
        return
    sides = np.asarray(boxes, dtype=np.float64)
    spacing = np.asarray(strides, dtype=np.float64)
    level = np.searchsorted(_RANGE * spacing[:-1], sides.max(axis=1) / 2, side="right")
    thin = int((sides.min(axis=1) < spacing[level]).sum())
    if thin * 100 > len(sides):
        warn_user(
            f"{thin} of {len(sides)} boxes are narrower than the {spacing[0]:g} pixels and more between places of FCOS "
            "at their size, and where they have no place inside they are not learned: give a larger image_size, or "
            'detector="retinanet"',
        )
