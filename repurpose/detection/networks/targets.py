"""Targets of images: boxes and codes of classes, in a dict an image or in one tensor, padded to the same number."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Targets", "coded", "listed", "padded_as"]

Targets = Sequence[dict[str, Tensor]]


def listed(targets: Targets | Tensor) -> list[dict[str, Tensor]]:
    """Return the "boxes" (n_boxes, 4) and "labels" (n_boxes,) of each image.

    One tensor has shape (n, most, 5), x1 y1 x2 y2 and the code, and codes below 0 where there is no box.

    >>> import torch
    >>> from repurpose.detection.networks.targets import listed
    >>> listed(torch.tensor([[[8.0, 16, 40, 48, 1], [-1, -1, -1, -1, -1]]]))
    [{'boxes': tensor([[ 8., 16., 40., 48.]]), 'labels': tensor([1])}]
    """
    if not isinstance(targets, Tensor):
        return list(targets)
    kept = [of_image[of_image[:, 4] >= 0] for of_image in targets]
    return [{"boxes": found[:, :4], "labels": found[:, 4].long()} for found in kept]


def padded_as(targets: Tensor, given: Targets) -> Tensor:
    """Return targets in one tensor with the boxes of `given`, which has as many an image."""
    made = targets.clone()
    made[targets[:, :, 4] >= 0, :4] = torch.cat([target["boxes"] for target in given])
    return made


def coded(targets: Targets, first_code: int) -> list[dict[str, Tensor]]:
    """Return targets as a detector takes them that calls the first class so."""
    return [{"boxes": target["boxes"].float(), "labels": target["labels"].long() + first_code} for target in targets]
