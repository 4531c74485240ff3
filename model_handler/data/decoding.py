"""Decoding turns a path, a PIL image or an array of pixels into a PIL image in RGB, of 8 bits a channel.

Each mode has one scale, the same for every image. Numbers that do not fit it are refused by name: clipped, they would
come out white or black, and stretched by what each image holds, no two images could be compared.
"""

import sys
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data.text.paths import HEIF_SUFFIXES

__all__ = ["UnreadableImageError", "can_read_heif", "image_in_file", "is_bytes", "is_pil", "open_image"]

_HEIF_PACKAGE = "pillow_heif"
_STARTS_A_PROGRAM = ("EPS",)  # Ghostscript, which runs what the file says
_OF_16_BITS = ("PNG", "PPM")  # formats whose images in mode "I" reach from 0 to 65535, whatever they hold


class UnreadableImageError(ValueError):
    """A file that cannot be opened or decoded as an image, or an image whose numbers have no known white."""


def is_pil(value: object) -> bool:
    """Return whether the value is a PIL image; if PIL was never imported, it is not."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def is_bytes(value: object) -> bool:
    """Return whether the value is an array or tensor of uint8, or of uint16, of which the upper byte is taken."""
    if isinstance(value, Tensor):
        return value.dtype in (torch.uint8, torch.uint16)
    return isinstance(value, np.ndarray) and value.dtype.kind == "u" and value.dtype.itemsize <= 2


def can_read_heif() -> bool:
    """Return whether the package that reads HEIC is installed, without importing it."""
    if _HEIF_PACKAGE in sys.modules:
        return sys.modules[_HEIF_PACKAGE] is not None
    return find_spec(_HEIF_PACKAGE) is not None


def open_image(image: Any) -> Any:
    """Return a PIL image in RGB. Raises UnreadableImageError with the reason alone; the caller knows the name."""
    try:
        if isinstance(image, (str, PathLike)):
            with _open_by_contents(image) as opened:
                return _from_pil(opened)
        if is_pil(image):
            return _from_pil(image)
        return _from_pixels(image).convert("RGB")
    except (MemoryError, UnreadableImageError):
        raise
    except Exception as error:  # a broken file raises almost anything: OSError, SyntaxError, struct.error, ...
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def image_in_file(contents: bytes) -> Any:
    """Return the image that the bytes of a file hold, its pixels not yet decoded. Raises UnreadableImageError."""
    from PIL import UnidentifiedImageError

    try:
        return _open_by_contents(BytesIO(contents))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:  # whose text has the address of the bytes in memory
        raise UnreadableImageError(f"its {len(contents):,} bytes are of no format that is known here") from error
    except Exception as error:
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def _open_by_contents(path: Any) -> Any:
    """Open a file by its contents and not its suffix: phones write HEIC, and some call it .jpg."""
    from PIL import Image, UnidentifiedImageError

    is_heif = str(path).lower().endswith(HEIF_SUFFIXES)
    if is_heif:
        _register_heif()
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        if _register_heif():
            return Image.open(path)
        if is_heif:
            raise UnreadableImageError(f"{error}; for HEIC: pip install pillow-heif") from error
        raise


def _register_heif() -> bool:
    """Let PIL read HEIC; returns whether it can."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return False
    register_heif_opener()
    return True


def _from_pil(image: Any) -> Any:
    _refuse_programs(image)
    # Only what comes straight from a file, whose path gives the same: who made another image of it may have turned it.
    return _to_rgb(_upright(image) if image.format else image, image.format)


def _upright(image: Any) -> Any:
    """Return the image turned as its EXIF says: a phone writes which side is up beside the pixels.

    `ImageOps.exif_transpose` would rewrite all other tags, and fail where one of them is odd.
    """
    from PIL.ExifTags import Base
    from PIL.Image import Transpose

    image.load()  # a TIFF is turned here, and then says so no more
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(Base.Orientation))
    return image if turn is None else image.transpose(turn)


def _refuse_programs(image: Any) -> None:
    if image.format in _STARTS_A_PROGRAM:
        raise UnreadableImageError(
            f"{image.format} files are read by starting another program, which is not done here; save it as a PNG"
        )


def _to_rgb(image: Any, file_format: str | None) -> Any:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_pixels(_whole_numbers(image, file_format)).convert("RGB")
    if image.mode == "F":
        return _from_pixels(_to_bytes(image)).convert("RGB")
    if image.mode == "La":  # PIL knows one way out of it
        image = image.convert("LA")
    if "transparency" in image.info:  # by way of RGBA, or PIL warns about palettes
        image = image.convert("RGBA")
    return image.convert("RGB")


def _whole_numbers(image: Any, file_format: str | None) -> np.ndarray:
    """Return the numbers of a grey image as uint16, of which 65535 is white."""
    numbers = np.asarray(image)
    if image.mode == "I" and file_format not in _OF_16_BITS and numbers.any():
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high > 65535 or high < 256:
            raise UnreadableImageError(
                f'it has mode "I" and numbers from {low} to {high}, which leaves open what is white: those from 256 to '
                "65535 are taken as 16 bits. Scale it to 8 bits first: image.convert('L') if 255 is white, else "
                "Image.fromarray of uint8"
            )
    return numbers.astype(np.uint16)


def _to_bytes(image: object) -> np.ndarray:
    """Return the numbers of a floating image as uint8, of which 1.0 is white."""
    shares = np.asarray(image)
    low, high = float(shares.min()), float(shares.max())
    if not (low >= 0 and high <= 1):  # NaN too
        raise UnreadableImageError(
            f'it has mode "F" and numbers from {low:g} to {high:g}, which leaves open what is white: those from 0 to 1 '
            "are taken as black to white. Scale it to 8 bits first: image.convert('L') if 255 is white, else "
            "Image.fromarray of uint8"
        )
    return np.round(shares * 255).astype(np.uint8)


def _from_pixels(pixels: np.ndarray | Tensor) -> Any:
    """Return an image of uint8 or uint16 numbers of shape (height, width[, channels])."""
    from PIL import Image

    array = pixels.cpu().numpy() if isinstance(pixels, Tensor) else pixels
    if array.dtype.itemsize == 2:  # PIL would clip it to white
        array = (array >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array))
