"""Pictures of detection data: whatever image a row has becomes a PIL image in RGB or a tensor, its pixels in place.

An image that the user opened is taken as it lies, whatever its EXIF says, as its boxes were drawn on that. A file is
turned upright, unless the size that its annotation states is that of the image as it lies.
"""

from math import isnan
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from model_handler.data.decoding import UnreadableImageError, is_bytes, is_pil, open_image
from repurpose.detection.data.rows import Picture, size_of

__all__ = ["as_picture", "open_annotated", "upright_size"]

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_PIXELS = (
    "an image is a path, a PIL image, an array (height, width, 3) of uint8, or a tensor (3, height, width) of uint8 or "
    "of floats from 0 to 1"
)


def as_picture(image: object, name: str) -> Picture:
    """Return a PIL image in RGB, or a tensor (3, height, width), uint8 or float32 from 0 to 1.

    Raises UnreadableImageError (a ValueError) for a file that is no image, ValueError for other shapes and for floats
    outside 0 to 1, TypeError for what is no image.
    """
    if isinstance(image, (str, PathLike)) or is_pil(image):
        try:
            # A copy forgets that it comes from a file: its boxes belong to its pixels as they lie.
            return open_image(image.copy() if is_pil(image) else image)  # type: ignore[attr-defined]
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{name}: {image} cannot be read as an image: {error}") from error
    if not isinstance(image, (np.ndarray, Tensor)):
        raise TypeError(f"{name} has {type(image).__name__} for an image; {_PIXELS}")
    channels_last = image.ndim == 2 or (
        image.ndim == 3 and image.shape[-1] in (1, 3, 4) and image.shape[0] not in (1, 3)
    )
    if is_bytes(image) and channels_last:
        return open_image(image)
    tensor = torch.as_tensor(np.asarray(image) if isinstance(image, np.ndarray) else image).as_subclass(Tensor)
    return _judged_tensor(tensor.detach(), name)


def open_annotated(path: PathLike, stated: tuple[int, int] | None, name: str) -> Picture:
    """Open an image that an annotation is about, which states a size (height, width) or none.

    Raises UnreadableImageError naming the annotation, and ValueError where the image has another size: its boxes would
    be elsewhere.
    """
    try:
        upright = open_image(path)
        if stated is None or size_of(upright) == stated:
            return upright
        from PIL import Image

        with Image.open(path) as opened:
            lying = open_image(opened.copy())
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name}: its image {path} cannot be read: {error}") from error
    if size_of(lying) != stated:
        raise ValueError(
            f"{name} states a size of {stated[1]} x {stated[0]} pixels, and its image {path} has {upright.size[0]} x "
            f"{upright.size[1]}: boxes drawn on the one lie elsewhere on the other. Mend the size, or leave it out"
        )
    return lying


def upright_size(path: PathLike, name: str) -> tuple[int, int]:
    """Return height and width of an image as `open_image` gives it; a JPEG tells them without being decoded.

    Raises UnreadableImageError naming the annotation.
    """
    from PIL import Image
    from PIL.ExifTags import Base

    try:
        with Image.open(path) as opened:
            if opened.format == "JPEG":  # others may have to be decoded to know which side is up
                width, height = opened.size
                return (width, height) if opened.getexif().get(Base.Orientation) in _SIDEWAYS else (height, width)
    except Exception:  # a broken file raises almost anything; what it is, the next line says
        pass
    try:
        return size_of(open_image(path))
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name}: its image {path} cannot be read: {error}") from error


def _judged_tensor(tensor: Tensor, name: str) -> Tensor:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or 0 in tensor.shape:
        raise ValueError(f"{name} has an image of shape {tuple(tensor.shape)}; {_PIXELS}")
    tensor = tensor.expand(3, -1, -1)
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"{name} has an image of {tensor.dtype}; {_PIXELS}")
    low, high = (float(limit) for limit in torch.aminmax(tensor))  # NaN where any is
    if isnan(low):
        raise ValueError(f"{name} has an image with NaN among its values; {_PIXELS}")
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # resizing overshoots a little
        raise ValueError(
            f"{name} has an image of floats from {low:g} to {high:g}, where 0 is black and 1 is white: leave "
            "normalising to the detector, which does it as its source network was trained"
        )
    return tensor.float()
