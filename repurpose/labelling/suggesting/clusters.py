"""Rows that are unlike each other come from k-means, in the space in which rows are alike to a Gaussian process."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from repurpose.meta_model.gp.rows import LayerRows

__all__ = ["Clusters", "cluster", "directions", "nearest_rows", "scaling_of"]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each row is in, (n_rows,), and the means of the clusters, (n_clusters, width)."""

    of_row: np.ndarray
    means: np.ndarray

    def medoids(self, rows: np.ndarray) -> np.ndarray:
        """Return of each cluster the row that is nearest to its mean: int (n_clusters,).

        It has the least sum of squared distances to the others of its cluster.
        """
        squares = ((rows - self.means[self.of_row]) ** 2).sum(axis=1)
        members = [np.flatnonzero(self.of_row == number) for number in range(len(self.means))]
        return np.array([of_one[squares[of_one].argmin()] for of_one in members])


def cluster(
    rows: np.ndarray, n: int, random_state: np.random.RandomState, weights: np.ndarray | None = None
) -> Clusters:
    """Divide rows (n_rows, width), which may have weights, by k-means into `n` clusters, or one for each different row.

    No cluster is empty.
    """
    from sklearn.cluster import KMeans

    different, of_row = np.unique(rows, axis=0, return_inverse=True)
    of_row = of_row.reshape(-1)
    if len(different) > n:
        counts = np.bincount(of_row, weights=weights)  # equal rows are one that counts more
        labels = KMeans(n, n_init=1, random_state=random_state).fit(different, sample_weight=counts).labels_
        _, of_row = np.unique(labels[of_row], return_inverse=True)
    weights = np.ones(len(rows)) if weights is None else weights
    members = [of_row == number for number in range(of_row.max() + 1)]
    return Clusters(of_row, np.array([np.average(rows[of_one], axis=0, weights=weights[of_one]) for of_one in members]))


def directions(scaling: LayerRows, matrix: np.ndarray) -> np.ndarray:
    """Return rows of features (n_rows, n_features) as a Gaussian process compares them: float32, of the same shape."""
    return torch.cat(scaling.transform(matrix), dim=1).numpy().astype(np.float32)


def scaling_of(matrix: np.ndarray, indices_per_layer: Mapping[str, np.ndarray]) -> LayerRows:
    """Learn from rows of features how to centre them and bring them to norm 1, layer by layer."""
    return LayerRows.fit(matrix, indices_per_layer, unit_norm=True)


def nearest_rows(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each row (n_rows, width) the number of the nearest of the others (n_others, width): int (n_rows,)."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(rows, others)
