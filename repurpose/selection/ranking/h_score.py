"""The regularised H-score of features: how much of their spread lies between the classes.

Ibrahim et al. (2021), arXiv:2110.06893: tr(S^-1 (1 - r) B), where B is the covariance of the class means, and S that of
the features, shrunk towards a multiple of the identity by the share r of Ledoit and Wolf (2004). Without the shrinkage
(Bao et al. 2019) it is useless where features are as many as rows.
"""

import numpy as np

__all__ = ["regularised_h_score"]


def regularised_h_score(rows: np.ndarray, codes: np.ndarray) -> float:
    """Return the regularised H-score, from 0 to n_classes - 1; larger is better.

    Costs one decomposition, n d min(n, d) operations. It misleads where classes differ in more than their means (one
    of two clusters, a ring), where rows are few beside features, as the shrinkage then decides, and between features of
    very different width. It is no score of held-out rows, and compares features of the same rows alone.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    codes : int ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them present.
    """
    rows = rows - rows.mean(axis=0, dtype=np.float64)
    n_rows, n_features = rows.shape
    counts = np.bincount(codes)
    means = np.stack([rows[codes == code].mean(axis=0) for code in range(len(counts))])
    weighted = np.sqrt(counts / n_rows)[:, None] * means  # B = weighted^T weighted
    products = rows @ rows.T / n_rows if n_rows < n_features else rows.T @ rows / n_rows
    scale = float(products.trace()) / n_features  # the mean variance of a feature
    if scale == 0:
        return 0.0  # features that never vary
    share = _shrinkage(rows, float((products**2).sum()), scale)
    variances, vectors = np.linalg.eigh(products)
    variances = np.maximum(variances, 0)
    shrunk = (1 - share) * variances + share * scale
    kept = shrunk > 1e-12 * shrunk.max()  # directions without variance have no spread of means either
    if n_rows < n_features:  # eigenvectors of the rows' products are sqrt(n v) times shorter than those of features
        kept &= variances > 1e-12 * variances.max()
        axes = rows.T @ (vectors[:, kept] / np.sqrt(n_rows * variances[kept]))
    else:
        axes = vectors[:, kept]
    between = ((weighted @ axes) ** 2).sum(axis=0)
    return float((1 - share) * (between / shrunk[kept]).sum())


def _shrinkage(rows: np.ndarray, squared_norm: float, scale: float) -> float:
    """Compute the share of Ledoit and Wolf for centred rows, whose covariance has this squared Frobenius norm."""
    n_rows, n_features = rows.shape
    of_rows = float(((rows**2).sum(axis=1) ** 2).sum()) / n_rows
    distance = squared_norm - n_features * scale**2  # from the multiple of the identity
    error = min((of_rows - squared_norm) / n_rows, distance)
    return error / distance if distance > 0 else 0.0
