"""`by_margin` chooses rows of which a head is least sure, and which are unlike each other: any probabilities serve.

Of ten times as many rows as are wanted, those with the smallest margin, k-means weighted by 1 - margin makes as many
clusters as are wanted, and the row nearest to the mean of each is taken (Zhdanov 2019, arXiv:1901.05954).
"""

import numpy as np

from repurpose.labelling.suggesting.clusters import cluster

__all__ = ["by_margin", "least_sure"]

_TIMES_AS_MANY = 10
_LEAST_WEIGHT = 1e-6  # a row of which the head is sure counts next to nothing, and k-means needs more than that


def least_sure(margin: np.ndarray, n: int) -> np.ndarray:
    """Return the rows among which to choose `n`, by the margin of all (n_rows,): the least first."""
    return np.argsort(margin, kind="stable")[: _TIMES_AS_MANY * n]


def by_margin(
    rows: np.ndarray, margin: np.ndarray, n: int, random_state: np.random.RandomState
) -> tuple[list[int], list[float]]:
    """Choose `n` of the rows (n_rows, width), sorted by their margin (n_rows,), with 1 - margin as scores."""
    doubt = np.maximum(1 - margin, _LEAST_WEIGHT)
    chosen = np.sort(cluster(rows, n, random_state, doubt).medoids(rows))
    rest = np.setdiff1d(np.arange(len(rows)), chosen)  # where equal rows leave fewer clusters
    chosen = np.concatenate([chosen, rest])[:n]
    return chosen.tolist(), (1 - margin[chosen]).tolist()
