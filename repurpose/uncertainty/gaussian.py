"""A covariance is shrunk to a multiple of the identity by the rule of Ledoit and Wolf (2004).

Without that, one of fewer rows than features could not be inverted. It is kept by the directions in which the rows
differ, so that neither time nor memory grows with the square of the number of features.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Gaussian"]

_FLOOR = 1e-10  # of the largest variance; a direction without any would make rounding errors infinitely strange


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A covariance shrunk to a multiple of the identity, by the directions in which the rows differ.

    Attributes
    ----------
    directions : float64 ndarray of shape (n_features, n_directions)
        Orthonormal; at most as many as rows or features.
    variances : float64 ndarray of shape (n_directions,)
        Along each of them, shrunk.
    rest : float
        The variance in every direction beside them.
    """

    directions: np.ndarray
    variances: np.ndarray
    rest: float

    @classmethod
    def fit(cls, centred: np.ndarray, weights: np.ndarray | None = None) -> "Gaussian":
        """Fit the covariance of centred rows (n_samples, n_features), as scikit-learn's `LedoitWolf`.

        The work is that of the smaller side: of as many rows as there are, where they are fewer than the features.
        """
        n_rows, n_features = centred.shape
        wide = n_rows < n_features
        if weights is not None:
            n_rows, centred = weights.sum(), centred * np.sqrt(weights)[:, None]
        # X X^T and X^T X share their nonzero eigenvalues: the smaller of the two is decomposed.
        gram = (centred @ centred.T if wide else centred.T @ centred) / n_rows
        variances, vectors = np.linalg.eigh(gram)
        mean = variances.sum() / n_features
        if not mean > 0:
            # All rows are the same: any unit will do, since only the order of distances has a meaning.
            return cls(np.empty((n_features, 0)), np.empty(0), 1.0)
        shrinkage = _shrinkage(centred, variances, weights)
        kept = variances > _FLOOR * variances[-1] if wide else np.ones(len(variances), dtype=bool)
        directions, found = vectors[:, kept], variances[kept]
        if wide:
            # Eigenvectors u of X X^T become those of X^T X: v = X^T u / sqrt(n lambda).
            directions = centred.T @ (directions / np.sqrt(n_rows * found))
        floor = _FLOOR * variances[-1]
        shrunk = np.maximum((1 - shrinkage) * found + shrinkage * mean, floor)
        return cls(directions, shrunk, max(shrinkage * mean, floor))

    def whiten(self, rows: np.ndarray) -> np.ndarray:
        """Whiten rows (n_samples, n_features) to (n_samples, m): x' covariance^-1 x is then the squared norm."""
        along = rows @ self.directions
        white = along / np.sqrt(self.variances)
        if self.directions.shape[0] == self.directions.shape[1]:
            return white
        return np.hstack([white, (rows - along @ self.directions.T) / np.sqrt(self.rest)])


def _shrinkage(weighted: np.ndarray, variances: np.ndarray, weights: np.ndarray | None) -> float:
    """Return how far the covariance is drawn to a multiple of the identity, 0 to 1, from the eigenvalues of the former.

    `sklearn.covariance.ledoit_wolf_shrinkage` forms products of all pairs of features; they only enter by sums that
    the eigenvalues and the norms of the rows give too. Centred rows come times the roots of their weights.
    """
    n_rows, n_features = weighted.shape
    mean_variance, square = variances.sum() / n_features, (variances**2).sum()
    distance = square / n_features - mean_variance**2
    fourth_powers = (weighted**2).sum(axis=1) ** 2
    if weights is None:
        fourth_power = fourth_powers.mean()
    else:
        n_rows = weights.sum()
        fourth_power = (fourth_powers / weights).sum() / n_rows
    noise = min((fourth_power - square) / (n_features * n_rows), distance)
    return float(noise / distance) if noise > 0 else 0.0
