"""Columns are brought to mean 0 and variance 1 in one domain: in another, means and scales are the first to differ."""

from dataclasses import dataclass
from typing import Self

import numpy as np

__all__ = ["Standardization", "covariance"]

_CONSTANT = 1e-6  # times the size of its mean: the rest is what float32 rounds


@dataclass(frozen=True, eq=False)
class Standardization:
    """The `means` and `deviations` of columns, float64 (n_features,); a column that is constant has deviation 1."""

    means: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Measure rows (n_rows, n_features), each of which counts as its weight (n_rows,) says."""
        rows = rows.astype(np.float64)
        means = np.average(rows, axis=0, weights=weights)
        deviations = np.sqrt(np.average((rows - means) ** 2, axis=0, weights=weights))
        return cls(means, np.where(deviations > _CONSTANT * np.abs(means), deviations, 1.0))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (n_rows, n_features) in these units, as float64."""
        return (rows - self.means) / self.deviations


def covariance(standardized: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the covariance (n_features, n_features) of rows whose means are 0 under these weights (n_rows,)."""
    weighted = standardized if weights is None else standardized * weights[:, None]
    total = len(standardized) if weights is None else weights.sum()
    return weighted.T @ standardized / total
