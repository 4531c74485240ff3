"""The nearest class mean, of rows that it has not seen: the plainest classifier there is, as a score of features."""

import numpy as np

__all__ = ["class_mean_accuracy"]


def class_mean_accuracy(rows: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return the accuracy of the nearest class mean, each row left out of the means that it is compared with.

    With `groups` (n_samples,), all rows of its group are left out. Distances are Euclidean, on the features as they
    are. A row that is all there is of its class does not count; NaN where none does. Costs n d n_classes operations. It
    misleads where classes have several clusters, and where a few large features drown the others.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    codes : int ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them present.
    """
    rows = rows - rows.mean(axis=0, dtype=np.float64)  # far from the origin, squares would lose their digits
    own = np.eye(codes.max() + 1)[codes]
    sums, counts = own.T @ rows, own.sum(axis=0)
    of_group = np.arange(len(rows)) if groups is None else np.unique(groups, return_inverse=True)[1]
    hits = []
    by_group = np.split(np.argsort(of_group, kind="stable"), np.cumsum(np.bincount(of_group))[:-1])
    for members in by_group:
        left = counts - own[members].sum(axis=0)
        means = (sums - own[members].T @ rows[members]) / np.maximum(left, 1)[:, None]
        squares = (means**2).sum(axis=1) - 2 * rows[members] @ means.T  # less the square of the row, which all share
        squares[:, left < 0.5] = np.inf
        counted = left[codes[members]] > 0.5
        hits += (squares.argmin(axis=1) == codes[members])[counted].tolist()
    return float(np.mean(hits)) if hits else float("nan")
