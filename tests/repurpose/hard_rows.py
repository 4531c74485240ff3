"""Training rows on which arithmetic in float32, or one class too few, shows."""

import numpy as np

from model_handler import Features
from tests.repurpose.examples import blobs


def repeated_row() -> tuple[np.ndarray, np.ndarray]:
    """Blobs, one row of which comes 200 times more: the variance there is the difference of nearly equal numbers."""
    X, y = blobs()
    return np.concatenate([X, np.repeat(X[:1], 200, axis=0)]), np.concatenate([y, np.repeat(y[:1], 200)])


def with_lone_classes() -> tuple[np.ndarray, np.ndarray]:
    """Blobs of three classes, and three classes of one row."""
    X, y = blobs()
    return np.concatenate([X, blobs(3, seed=9)[0]]), np.concatenate([y, [3, 4, 5]])


def two_classes() -> tuple[np.ndarray, np.ndarray]:
    """Blobs of two classes."""
    return blobs(n_classes=2)


def far_from_zero() -> tuple[np.ndarray, np.ndarray]:
    """Blobs in units of 10,000, about a million."""
    X, y = blobs()
    return (1e4 * X + 1e6).astype(np.float32), y


def more_features_than_rows() -> tuple[np.ndarray, np.ndarray]:
    """Blobs in 200 dimensions."""
    return blobs(40, n_features=200)


def thousand_classes() -> tuple[np.ndarray, np.ndarray]:
    """Two rows of each of a thousand classes."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(1000), 2)
    return (3 * rng.normal(size=(1000, 32))[y] + rng.normal(size=(2000, 32))).astype(np.float32), y


HARD = (repeated_row, with_lone_classes, two_classes, far_from_zero, more_features_than_rows)


def as_features(X: np.ndarray, y: np.ndarray | None = None) -> Features:
    """The first column as one layer, the others as another."""
    return Features({"0": X[:, :1], "1": X[:, 1:]}, y)


def new_rows(X: np.ndarray) -> np.ndarray:
    """Some of the rows, some near them, and some far away."""
    rng = np.random.default_rng(1)
    near = X[rng.integers(0, len(X), 100)] + X.std(axis=0) * rng.normal(size=(100, X.shape[1])) / 3
    return np.concatenate([X[:10], near, X[:10] + 20 * X.std(axis=0)]).astype(np.float32)
