"""Images that are drawn here, by a fixed seed: rendered characters of several fonts, and line drawings of things.

Position, size, angle, thickness and colours vary, as in a collection that somebody made by hand.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["characters", "drawings"]

SIDE = 64  # pixels
LETTERS = "abdegknrst"
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)
N_OF_EACH = 12  # images of a letter in a font
N_DRAWINGS = 120  # of a thing

Point = tuple[float, float]
Stroke = Sequence[Point]


def characters() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (1,200, 64, 64, 3), the letter of each, and its font: ten of both. The fonts are those of matplotlib."""
    import matplotlib

    folder, rng = Path(matplotlib.get_data_path()) / "fonts" / "ttf", np.random.default_rng(0)
    kinds = [(letter, font) for letter in LETTERS for font in FONTS for _ in range(N_OF_EACH)]
    images = [_character(letter, folder / font, rng) for letter, font in kinds]
    letters, fonts = zip(*kinds)
    return np.stack(images), np.array(letters), np.array([Path(font).stem for font in fonts])


def drawings() -> tuple[np.ndarray, np.ndarray]:
    """Images (960, 64, 64, 3) of eight things drawn by a shaking hand, and the name of each thing."""
    rng = np.random.default_rng(0)
    names = np.repeat(list(_THINGS), N_DRAWINGS)
    return np.stack([_drawing(_THINGS[name], rng) for name in names]), names


def _character(letter: str, font: Path, rng: np.random.Generator) -> np.ndarray:
    image, ink = _paper(rng)
    center = tuple(SIDE / 2 + rng.normal(0, 3, size=2))
    type_ = ImageFont.truetype(str(font), int(rng.integers(26, 46)))
    ImageDraw.Draw(image).text(center, letter, fill=ink, font=type_, anchor="mm")
    return _photographed(image, rng)


def _drawing(strokes: Callable[[], list[Stroke]], rng: np.random.Generator) -> np.ndarray:
    image, ink = _paper(rng)
    size, width = rng.uniform(16, 27), int(rng.integers(1, 4))
    stretch, center = rng.uniform(0.8, 1.2, size=2), SIDE / 2 + rng.normal(0, 3, size=2)
    for stroke in strokes():
        points = np.array(stroke) * stretch * size + rng.normal(0, 1.2, size=(len(stroke), 2)) + center
        ImageDraw.Draw(image).line([tuple(point) for point in points], fill=ink, width=width, joint="curve")
    return _photographed(image, rng)


def _paper(rng: np.random.Generator) -> tuple[Image.Image, tuple[int, ...]]:
    """A sheet of some light colour, and a dark ink."""
    light, dark = rng.integers(190, 256, size=3), rng.integers(0, 110, size=3)
    return Image.new("RGB", (SIDE, SIDE), tuple(light.tolist())), tuple(dark.tolist())


def _photographed(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """The sheet a little turned, with noise."""
    corner = image.getpixel((0, 0))
    turned = image.rotate(rng.normal(0, 8), Image.Resampling.BILINEAR, fillcolor=corner)
    return np.clip(np.asarray(turned) + rng.normal(0, 6, size=(SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def _arc(center: Point, radius: float, start: float, end: float, n_points: int = 24) -> Stroke:
    """Points of a circle, angles in turns from the right, downwards."""
    angles = np.linspace(start, end, n_points) * 2 * math.pi
    return [(center[0] + radius * math.cos(angle), center[1] + radius * math.sin(angle)) for angle in angles]


def _house() -> list[Stroke]:
    walls = [(-0.8, 0.9), (-0.8, -0.2), (0.0, -0.9), (0.8, -0.2), (0.8, 0.9), (-0.8, 0.9)]
    return [walls, [(-0.2, 0.9), (-0.2, 0.3), (0.2, 0.3), (0.2, 0.9)], [(-0.8, -0.2), (0.8, -0.2)]]


def _cup() -> list[Stroke]:
    return [[(-0.7, -0.6), (-0.5, 0.8), (0.3, 0.8), (0.5, -0.6), (-0.7, -0.6)], _arc((0.45, 0.0), 0.4, -0.2, 0.25)]


def _tree() -> list[Stroke]:
    return [_arc((0.0, -0.35), 0.6, 0.0, 1.0), [(-0.12, 0.25), (-0.12, 0.95)], [(0.12, 0.25), (0.12, 0.95)]]


def _fish() -> list[Stroke]:
    body = [(-0.9, 0.0), (-0.4, -0.45), (0.3, -0.35), (0.6, 0.0), (0.3, 0.35), (-0.4, 0.45), (-0.9, 0.0)]
    return [body, [(0.6, 0.0), (0.95, -0.4), (0.95, 0.4), (0.6, 0.0)], _arc((-0.55, -0.1), 0.06, 0, 1, 8)]


def _key() -> list[Stroke]:
    return [_arc((-0.55, 0.0), 0.35, 0, 1), [(-0.2, 0.0), (0.95, 0.0), (0.95, 0.3)], [(0.65, 0.0), (0.65, 0.25)]]


def _glasses() -> list[Stroke]:
    rims = [_arc((-0.5, 0.1), 0.32, 0, 1), _arc((0.5, 0.1), 0.32, 0, 1)]
    return [*rims, _arc((0.0, 0.1), 0.2, 0.5, 1.0, 8), [(-0.82, 0.1), (-0.95, -0.3)], [(0.82, 0.1), (0.95, -0.3)]]


def _umbrella() -> list[Stroke]:
    roof = [*_arc((0.0, 0.0), 0.9, 0.5, 1.0), (0.45, -0.15), (0.0, 0.0), (-0.45, -0.15), (-0.9, 0.0)]
    return [roof, [(0.0, 0.0), (0.0, 0.75), *_arc((-0.15, 0.75), 0.15, 0.0, 0.5, 8)]]


def _ladder() -> list[Stroke]:
    rails = [[(-0.45, -0.95), (-0.45, 0.95)], [(0.45, -0.95), (0.45, 0.95)]]
    return [*rails, *([(-0.45, height), (0.45, height)] for height in (-0.6, -0.2, 0.2, 0.6))]


_THINGS = {
    "house": _house,
    "cup": _cup,
    "tree": _tree,
    "fish": _fish,
    "key": _key,
    "glasses": _glasses,
    "umbrella": _umbrella,
    "ladder": _ladder,
}
