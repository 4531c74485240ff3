"""LogME: the largest evidence of linear regressions from features to the classes (You et al. 2021, arXiv:2102.11005).

For each class the targets are 1 on its rows and 0 on the others, and the evidence of y = F w + noise, with w normal of
variance 1 / a and noise of variance 1 / b, is as large as any a and b make it. Along the singular directions of F, with
squared singular values s, it depends on k = a / b alone, as the best b for a given k has a closed form:

    1/2 sum_i log(k / (k + s_i)) + n/2 log b - n/2 (1 + log 2 pi),    b = n / sum_i y_i^2 k / (k + s_i)

The paper finds a and b by a fixed-point iteration; here k is sought on a grid and then by Brent's method.
"""

import numpy as np

__all__ = ["log_me"]

_GRID = np.logspace(-8, 4, 97)  # values of k, in units of the largest square
_NOTHING = 1e-12  # of the largest square: below it a direction is rounding error
_LEAST_REST = 1e-10  # of the squared targets, where features fit them exactly: no noise at all has no evidence


def log_me(rows: np.ndarray, codes: np.ndarray) -> float:
    """Return the log maximum evidence for each row, averaged over the classes, in nats; larger is better.

    Costs one decomposition, n d min(n, d) operations. It misleads where features suit a classifier in other ways than
    by linear regression on 0 and 1, and as evidence does in general: it says how well all the weights that a prior
    allows explain the rows, which is not how well the best of them predict new ones (Lotfi et al. 2022,
    arXiv:2202.11678). It is no score of held-out rows, and compares features of the same rows alone.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Raw features, not centred, as in the paper; their scale does not matter.
    codes : int ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them present.
    """
    squares, along = _spectrum(rows.astype(np.float64), np.eye(codes.max() + 1)[codes])
    return float(np.mean([_largest_evidence(squares, of_class, len(rows)) for of_class in along.T])) / len(rows)


def _spectrum(rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared singular values (r + 1,) and the squares of the targets along each direction, (r + 1, n_classes).

    The last entry is what no direction of the rows reaches, at a singular value of 0.
    """
    is_wide = len(rows) <= rows.shape[1]
    squares, vectors = np.linalg.eigh(rows @ rows.T if is_wide else rows.T @ rows)
    kept = squares > _NOTHING * squares[-1]
    squares, vectors = squares[kept], vectors[:, kept]
    left = vectors if is_wide else rows @ vectors / np.sqrt(squares)
    along = (left.T @ targets) ** 2
    total = (targets**2).sum(axis=0)
    rest = np.maximum(total - along.sum(axis=0), _LEAST_REST * total)
    return np.append(squares, 0.0), np.vstack([along, rest])


def _largest_evidence(squares: np.ndarray, along: np.ndarray, n_rows: int) -> float:
    from scipy.optimize import minimize_scalar

    def evidence(k: float) -> float:
        shrunk = k / (k + squares)
        noise = along @ shrunk / n_rows  # 1 / b
        return float(np.log(shrunk).sum() - n_rows * (np.log(2 * np.pi * noise) + 1)) / 2

    grid = _GRID * (squares.max() or 1.0)  # features may be all 0
    best = int(np.argmax([evidence(k) for k in grid]))
    bounds = np.log(grid[[max(best - 1, 0), min(best + 1, len(grid) - 1)]])
    found = minimize_scalar(lambda logarithm: -evidence(np.exp(logarithm)), bounds=tuple(bounds), method="bounded")
    return max(-float(found.fun), evidence(grid[best]))
