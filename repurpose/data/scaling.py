"""Features are centred and scaled by one number a layer before a head is fitted; linear coefficients are folded back.

Layers may differ in scale by orders of magnitude, while within a layer the differences between channels carry meaning:
dividing each column by its own deviation blows up channels that hardly ever fire, and doubles the log loss of a task
(`benchmarks/scaling.py`).

The size of the rows matters to an optimiser that stops at a gradient of fixed size, as lbfgs in scikit-learn does: rows
of norm 1 stop before weakly regularised fits have converged. Norm 16 with the tolerance of `choice_of_c` converges.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["BlockScaling", "Moments", "at_least_once", "center_and_variance"]

ROW_NORM = 16.0


@dataclass(frozen=True, eq=False)
class BlockScaling:
    """x becomes (x - `center`) * `factor`: float64 arrays of shape (n_features,), `factor` constant within a layer.

    After `fit`, the layers have equal mean squared row norm on the training rows, and the whole matrix has a
    root-mean-square row norm of 16; rows with weights count by `at_least_once`. A layer whose features never vary is
    centred only.
    """

    center: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(
        cls, features: np.ndarray, indices_per_layer: Mapping[str, np.ndarray], weights: np.ndarray | None = None
    ) -> "BlockScaling":
        """Fit the scaling to training rows (n_samples, n_features), perhaps with weights, by the columns of layers."""
        return cls.of_moments(*center_and_variance(features, weights), indices_per_layer)

    @classmethod
    def of_moments(
        cls, center: np.ndarray, variance: np.ndarray, indices_per_layer: Mapping[str, np.ndarray]
    ) -> "BlockScaling":
        """Make the scaling of rows whose columns have this mean and variance, each (n_features,)."""
        norms = {name: float(variance[columns].sum()) ** 0.5 for name, columns in indices_per_layer.items()}
        n_varying = max(1, sum(norm > 0 for norm in norms.values()))
        factor = np.ones(len(center))
        for name, columns in indices_per_layer.items():
            if norms[name] > 0:
                factor[columns] = ROW_NORM / (n_varying**0.5 * norms[name])
        return cls(center, factor)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return scaled rows in float64: (n_samples, n_features)."""
        scaled = features.astype(np.float64)
        scaled -= self.center
        scaled *= self.factor
        return scaled

    def fold_back(self, coefficients: np.ndarray, intercepts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn coefficients (n_outputs, n_features) and intercepts (n_outputs,) for scaled rows into raw ones."""
        raw = coefficients * self.factor
        return raw, intercepts - raw @ self.center

    def take_in(self, coefficients: np.ndarray, intercepts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn coefficients and intercepts for raw rows into those for scaled ones; `fold_back` turns them back."""
        return coefficients / self.factor, intercepts + coefficients @ self.center


def center_and_variance(features: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and variance (n_features,) of columns of rows (n_samples, n_features), counted by `at_least_once`.

    Float64; a column that never varies has exactly its value and 0, without rounding errors.
    """
    lowest, highest = features.min(axis=0), features.max(axis=0)
    constant = lowest == highest
    if weights is None:
        mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
    else:
        counts = at_least_once(weights)
        shares = counts / counts.sum()
        mean = shares @ features.astype(np.float64)
        variance = shares @ np.square(features - mean)
    return np.where(constant, lowest, mean), np.where(constant, 0.0, variance)


@dataclass(eq=False)
class Moments:
    """Mean and variance of the columns of rows that come block by block, as `center_and_variance` has them of all rows.

    Blocks are merged by their counts, means and sums of squares about these (Chan et al. 1983): nothing cancels.
    """

    count: float = 0.0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(1))
    lowest: np.ndarray = field(default_factory=lambda: np.full(1, np.inf))
    highest: np.ndarray = field(default_factory=lambda: np.full(1, -np.inf))

    def add(self, features: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take in rows (n_rows, n_features), perhaps with weights, in place."""
        mean, variance = center_and_variance(features, weights)
        count = float(len(features) if weights is None else at_least_once(weights).sum())
        total, step = self.count + count, mean - self.mean
        self.squares = self.squares + variance * count + np.square(step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total
        self.lowest = np.minimum(self.lowest, features.min(axis=0))
        self.highest = np.maximum(self.highest, features.max(axis=0))

    def center_and_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both, each (n_features,), of all rows so far; a column that never varies has its value and 0."""
        constant = self.lowest == self.highest
        return np.where(constant, self.lowest, self.mean), np.where(constant, 0.0, self.squares / self.count)


def at_least_once(weights: np.ndarray) -> np.ndarray:
    """Return how often rows count where they are scaled: as their weights (n_samples,) say, but not less than once.

    A row that a loss hardly counts is still a row that the optimiser sees. If scaling hardly counted it, the spread of
    the few others would be taken for that of all, and it would come out at many times the usual norm.
    """
    return np.maximum(weights, 1.0)
