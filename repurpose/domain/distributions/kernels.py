"""The Gaussian kernel, with its width by the median, and what it says of the distance between two domains."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist, pdist

__all__ = ["check_n_rows", "gaussian_kernel", "in_blocks", "mean_kernel", "median_width", "squared_mmd"]

_MOST_FOR_MEDIAN = 2000  # rows: 16 MB of distances; more change the median by little
_MOST_ROWS = 5000
_MOST_ENTRIES = 2**24  # of a block of a kernel matrix, 134 MB


def check_n_rows(n_rows: int, n_matrices: int, name: str) -> None:
    """Raise ValueError for more rows than kernels are computed of; `n_matrices` of their size are in memory at once."""
    if n_rows > _MOST_ROWS:
        raise ValueError(
            f"{name} compares all rows with each other: {n_rows:,} rows would take {n_matrices} matrices of "
            f"{8 * n_rows**2 / 1e9:.1f} GB each, and its limit is {_MOST_ROWS:,} rows; give some of the rows of each "
            "domain, or use CoralRepurposer, whose memory does not grow with the rows"
        )


def median_width(rows: np.ndarray) -> float:
    """Return the median distance between different rows (n_rows, n_features), of 2,000 of them at most; 1 if it is 0.

    These are taken at even steps. The heuristic is of Gretton et al. (2012), A kernel two-sample test, JMLR 13.
    """
    step = -(-len(rows) // _MOST_FOR_MEDIAN)
    distances = pdist(rows[::step])
    apart = distances[distances > 0]
    return float(np.median(apart)) if len(apart) else 1.0


def gaussian_kernel(rows: np.ndarray, others: np.ndarray, width: float) -> np.ndarray:
    """Return exp(-|x - z|^2 / (2 width^2)) of each row x with each other z: float64 (n_rows, n_others)."""
    return np.exp(cdist(rows, others, "sqeuclidean") / (-2 * width**2))


def in_blocks(rows: np.ndarray, n_others: int) -> Iterator[np.ndarray]:
    """Cut rows so that the kernels of a block with `n_others` rows take little memory, however many rows there are."""
    step = max(1, _MOST_ENTRIES // n_others)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def mean_kernel(rows: np.ndarray, others: np.ndarray, width: float) -> np.ndarray:
    """Return the mean over all other rows of the kernel of each row with them: (n_rows,)."""
    return np.concatenate([gaussian_kernel(part, others, width).mean(axis=1) for part in in_blocks(rows, len(others))])


def squared_mmd(source: np.ndarray, target: np.ndarray, width: float, weights: np.ndarray | None = None) -> float:
    """Return the squared maximum mean discrepancy of two sets of rows, biased by its diagonals, and so at least 0.

    Rows of the source count as `weights` (n_source,) say.
    """
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    return float(
        weights @ gaussian_kernel(source, source, width) @ weights
        - 2 * weights @ gaussian_kernel(source, target, width).mean(axis=1)
        + gaussian_kernel(target, target, width).mean()
    )
