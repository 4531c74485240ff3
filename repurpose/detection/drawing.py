"""Drawing what was found on its image: boxes with labels and scores, a colour a class, the same on every image."""

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from repurpose.detection.data.detections import Detections
from repurpose.detection.data.pictures import as_picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["as_pil", "colour_of", "draw", "text_of"]

# Ten colours that are told apart on photographs, dark enough for white text.
_COLOURS = (
    *((214, 39, 40), (31, 119, 180), (44, 140, 44), (148, 103, 189), (200, 90, 10)),
    *((140, 86, 75), (200, 60, 150), (90, 90, 90), (120, 120, 20), (10, 140, 150)),
)


def draw(image: object, detections: Detections, *, min_score: float = 0.0) -> "Image":
    """Return a copy of an image, as a PIL image in RGB, with the boxes found of at least `min_score` drawn on it.

    `image` is a path, a PIL image, an array (height, width, 3) of uint8, or a tensor (3, height, width) of uint8 or of
    floats from 0 to 1. The surest boxes are drawn last, on top. Raises ValueError and TypeError for other images.

    Examples
    --------
    >>> from PIL import Image
    >>> from repurpose.detection import Detections, draw
    >>> drawn = draw(Image.new("RGB", (64, 48)), Detections([[8, 8, 40, 40]], ["cat"], [0.9]))
    >>> drawn.size, drawn.getpixel((8, 30)) != (0, 0, 0)
    ((64, 48), True)
    """
    from PIL import ImageDraw

    if not isinstance(detections, Detections):
        raise TypeError(
            f"detections must be the Detections of one image, got {type(detections).__name__}; "
            "predict_objects gives a list of them, one an image: draw(image, found[0])"
        )
    drawn = as_pil(image)
    shown, canvas = detections.at_least(min_score), ImageDraw.Draw(drawn)
    for box, label, score in reversed(list(zip(shown.boxes.tolist(), shown.labels.tolist(), shown.scores.tolist()))):
        _draw_box(canvas, box, text_of(label, score), colour_of(label), drawn.size)
    return drawn


def as_pil(image: object) -> "Image":
    """Return a new PIL image in RGB."""
    from PIL import Image

    picture = as_picture(image, "the image")
    if not isinstance(picture, Tensor):
        return picture.copy()
    pixels = picture if picture.dtype == torch.uint8 else (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def colour_of(label: str | int) -> tuple[int, int, int]:
    """Return the colour of a class, red, green and blue from 0 to 255, which depends on its label alone."""
    return _COLOURS[zlib.crc32(str(label).encode("utf-8", "surrogatepass")) % len(_COLOURS)]


def text_of(label: str | int, score: float) -> str:
    """Return what stands at a box, in one line."""
    return f"{' '.join(str(label).split())} {score:.2f}"


def _draw_box(
    canvas: "ImageDraw", box: list[float], text: str, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    from PIL import ImageFont

    width, height = size
    x1, y1, x2, y2 = (min(max(edge, 0.0), side - 1.0) for edge, side in zip(box, (width, height, width, height)))
    line = max(1, round(min(size) / 200))
    canvas.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
    font = ImageFont.load_default(max(8.0, min(size) / 30))
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    # Above the box where there is room, else inside; never out of the image to the right.
    x = max(0.0, min(x1, width - (right - left) - 2))
    y = y1 - (bottom - top) - 2 if y1 >= bottom - top + 2 else y1
    canvas.rectangle((x, y, x + right - left + 2, y + bottom - top + 2), fill=colour)
    canvas.text((x + 1 - left, y + 1 - top), text, fill="white", font=font)
