"""Sizes: how large images are when a detector sees them, and how large their boxes then are."""

from collections.abc import Sequence

import numpy as np

from repurpose.detection.data import DetectionTruth
from repurpose.detection.networks.images import scale_of
from repurpose.parameters import is_whole

__all__ = ["LEAST_SIZE", "chosen_image_size", "image_size_mistakes", "sizes_of_boxes"]

_LEAST, _MOST = 128, 640
LEAST_SIZE = 32  # one element of the coarsest map


def image_size_mistakes(image_size: object) -> list[str]:
    """Say what is wrong with the parameter."""
    if (isinstance(image_size, str) and image_size == "auto") or is_whole(image_size, LEAST_SIZE):
        return []
    return [f'image_size must be "auto" or a whole number of at least {LEAST_SIZE} pixels, got {image_size!r}']


def chosen_image_size(image_size: int | str, truths: Sequence[DetectionTruth]) -> int:
    """Return the largest short side; for "auto" the median of the images, from 128 to 640 pixels."""
    if not isinstance(image_size, str):
        return int(image_size)
    return int(np.clip(np.median([min(truth.size) for truth in truths]), _LEAST, _MOST))


def sizes_of_boxes(truths: Sequence[DetectionTruth], image_size: int, fixed_size: tuple[int, int] | None) -> np.ndarray:
    """Return width and height of the boxes to be learned, (n, 2), in pixels of the images as the network sees them."""
    sizes = [
        (truth.boxes[:, 2:] - truth.boxes[:, :2])[~truth.ignored] * scale_of(*truth.size, image_size, fixed_size)
        for truth in truths
    ]
    return np.concatenate(sizes) if sizes else np.empty((0, 2), np.float32)
