"""`typiclust` chooses typical rows of clusters without labels: TypiClust, Hacohen et al. (2022), arXiv:2202.02794.

k-means makes as many clusters as there will be labels, at most 500. Clusters of fewer than 5 rows are left out, since
their rows may be outliers; of the others those with the fewest labels come first, and of equally many the largest. Each
gives its most typical row, and where more are wanted than there are clusters, they are gone through again. The
typicality of a row is the inverse of its mean distance to its nearest 20 neighbours among the rows of its cluster that
have no label and are not chosen; as in the authors' code to half of them, where that is fewer. (That code takes squares
of distances, and leaves out clusters of 5 rows too.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from repurpose.labelling.suggesting.clusters import cluster

__all__ = ["RowsOfClusters", "typicality", "typiclust"]

_NEIGHBOURS, _MOST_CLUSTERS, _LEAST_ROWS = 20, 500, 5  # as in the paper


@dataclass(frozen=True, eq=False)
class RowsOfClusters:
    """The rows that were chosen of clusters, in order, their scores, and the sizes of their clusters, each (n,)."""

    rows: np.ndarray
    scores: np.ndarray
    cluster_sizes: np.ndarray


def typiclust(
    rows: np.ndarray, n: int, random_state: np.random.RandomState, labelled: np.ndarray | None = None
) -> RowsOfClusters:
    """Choose `n` of the rows (n_rows, width), none of them `labelled`, a mask (n_rows,).

    Where no cluster has 5 rows, as in a small pool, none is left out.
    """
    has_label = np.zeros(len(rows), dtype=bool) if labelled is None else labelled
    n_clusters = min(int(has_label.sum()) + n, _MOST_CLUSTERS)
    of_row = cluster(rows, n_clusters, random_state).of_row
    sizes = np.bincount(of_row)
    n_labelled = np.bincount(of_row[has_label], minlength=len(sizes))
    in_turn = np.lexsort([-sizes, n_labelled])
    free = [np.flatnonzero((of_row == number) & ~has_label) for number in range(len(sizes))]
    chosen, scores = [], []
    for number in _turns(in_turn, sizes, [len(members) for members in free]):
        typical = typicality(rows[free[number]])
        best = int(typical.argmax())
        chosen.append(int(free[number][best]))
        scores.append(float(typical[best]))
        free[number] = np.delete(free[number], best)
        if len(chosen) == n:
            break
    return RowsOfClusters(np.array(chosen), np.array(scores), sizes[of_row[chosen]])


def _turns(in_turn: np.ndarray, sizes: np.ndarray, n_free: list[int]) -> Iterator[int]:
    """Yield which cluster is to give its next row: all large ones in their turns, and in the end the small ones."""
    large = sizes[in_turn] >= _LEAST_ROWS
    for clusters in (in_turn[large].tolist(), in_turn[~large].tolist()):
        for turn in range(max((n_free[number] for number in clusters), default=0)):
            yield from (number for number in clusters if n_free[number] > turn)


def typicality(rows: np.ndarray) -> np.ndarray:
    """Return the inverse of the mean distance of each row (n_rows, width) to its nearest neighbours: (n_rows,).

    There are 20 neighbours, or half of the rows where that is fewer, at least one; a row alone has typicality 0.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(rows) == 1:
        return np.zeros(1)
    n_neighbours = max(1, min(_NEIGHBOURS, len(rows) // 2))
    neighbours = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(rows.astype(float))
    distances, _ = neighbours.kneighbors()  # without the row itself
    return 1 / np.maximum(distances.mean(axis=1), np.finfo(np.float32).eps)
