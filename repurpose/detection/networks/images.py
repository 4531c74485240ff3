"""Images on their way into a detector: normalised, made smaller where they are too large, and padded to one size.

Boxes go along. The base is torchvision's transform, which would enlarge small images too, and pad to no fixed size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from repurpose.detection.networks.normalization import Normalization

__all__ = ["ImageBatches", "in_corners", "largest_side", "scale_of", "shrunk", "shrunk_size"]

_LONG_TO_SHORT = 1333 / 800  # torchvision's limit of the long side, for a short one as large as may be


def scale_of(height: int, width: int, image_size: int, fixed_size: tuple[int, int] | None = None) -> float:
    """Return by what an image is multiplied, at most 1: its short side is then at most `image_size` pixels.

    Its long side is at most 1.67 times that; of a `fixed_size`, which is padded to, both sides fit into it.

    >>> from repurpose.detection.networks.images import scale_of
    >>> scale_of(100, 120, 200), scale_of(400, 480, 200), scale_of(400, 480, 200, (240, 240))
    (1.0, 0.5, 0.5)
    """
    if fixed_size is not None:
        return min(1.0, fixed_size[0] / height, fixed_size[1] / width)
    return min(1.0, image_size / min(height, width), _LONG_TO_SHORT * image_size / max(height, width))


def largest_side(image_size: int) -> int:
    """Return how long the long side of an image can be whose short side is at most `image_size` pixels."""
    return round(_LONG_TO_SHORT * image_size)


def shrunk(image: Tensor, scale: float) -> Tensor:
    """Return an image (3, height, width), floating or of whole numbers to 255, with its sides multiplied by `scale`."""
    if scale == 1:
        return image
    size = shrunk_size((image.shape[-2], image.shape[-1]), scale)
    whole = not image.is_floating_point()
    smaller = functional.interpolate((image.float() if whole else image)[None], size, mode="bilinear", antialias=True)[
        0
    ]
    return smaller.round().clamp(0, 255).to(image.dtype) if whole else smaller


def shrunk_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the height and width that `shrunk` gives an image of these."""
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def in_corners(images: Sequence[Tensor] | Tensor, sizes: Tensor | None) -> list[Tensor]:
    """Return images of these sizes (n, 2), height and width, each from the upper left corner of one of the given."""
    if sizes is None:
        return list(images)
    return [image[:, :height, :width] for image, (height, width) in zip(images, sizes.tolist(), strict=True)]


class ImageBatches(GeneralizedRCNNTransform):
    """Makes one batch of images of any sizes, floating from 0 to 1 or whole numbers from 0 to 255.

    Parameters
    ----------
    normalization : Normalization
    image_size : int
        The largest short side; see `scale_of`.
    divisor : int
        Height and width are padded to multiples of it.
    fixed_size : (int, int), optional
        The height and width to pad to instead.

    Attributes
    ----------
    least_size : (int, int)
        What height and width are padded to at least: those of the whole batch, while a part of it is computed.
    """

    def __init__(
        self,
        normalization: Normalization,
        image_size: int,
        divisor: int,
        fixed_size: tuple[int, int] | None = None,
    ) -> None:
        mean, deviation = list(normalization.mean), list(normalization.deviation)
        super().__init__(image_size, largest_side(image_size), mean, deviation, divisor)
        self.image_size, self.padded_to = image_size, fixed_size
        self.least_size = (0, 0)

    @contextmanager
    def padding_at_least(self, height: int, width: int) -> Iterator[None]:
        """Have batches padded to a least size in this block."""
        self.least_size = (height, width)
        try:
            yield
        finally:
            self.least_size = (0, 0)

    def normalize(self, image: Tensor) -> Tensor:
        """Scale the channels of one image."""
        return super().normalize(image if image.is_floating_point() else image.to(torch.float32) / 255)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Make an image smaller, and its boxes, where it is too large."""
        height, width = image.shape[-2:]
        scale = scale_of(height, width, self.image_size, self.padded_to)
        smaller = shrunk(image, scale)
        if target is not None and scale < 1:
            target["boxes"] = resize_boxes(target["boxes"], [height, width], list(smaller.shape[-2:]))
        return smaller, target

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Put images into one tensor, each in the upper left corner, with the mean colour beside them."""
        size = self.padded_to or tuple(
            ceil(max(least, *(image.shape[axis] for image in images)) / size_divisible) * size_divisible
            for axis, least in enumerate(self.least_size, start=1)
        )
        batch = images[0].new_zeros(len(images), images[0].shape[0], *size)
        for place, image in zip(batch, images):
            place[:, : image.shape[1], : image.shape[2]].copy_(image)
        return batch
