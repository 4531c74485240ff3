"""Inputs of the Bayesian network are principal components of the scaled features, all divided by one number.

Components keep their own sizes: dividing each by its deviation would make the last, which are mostly noise, as loud as
the first.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from repurpose.data.scaling import BlockScaling, at_least_once
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table

__all__ = ["PrincipalRows"]

_MAX_COMPONENTS = 256
_NOTHING = 1e-7  # a component this small beside the first is rounding error


@storable
@dataclass(frozen=True, eq=False)
class PrincipalRows:
    """Raw rows, scaled by `center` and `factor`, become products with the columns of `components`.

    Attributes
    ----------
    center, factor : ndarray of shape (n_features,)
        The center and factor of the `BlockScaling`.
    components : ndarray of shape (n_features, n_components)
        Orthogonal columns of one length, such that the mean square of all numbers of the training rows is 1. Rows with
        weights count by `at_least_once`.
    """

    center: np.ndarray
    factor: np.ndarray
    components: np.ndarray

    _schema: ClassVar[Table] = {
        "center": Array("n_features"),
        "factor": Array("n_features"),
        "components": Array("n_features", "n_components"),
    }

    @classmethod
    def fit(
        cls, rows: np.ndarray, basis: np.ndarray | None, scaling: BlockScaling, weights: np.ndarray | None = None
    ) -> "PrincipalRows":
        """Find components of scaled training rows (n_samples, n_inputs), rotated into `basis` where this is not None.

        At most 256 components are kept, and none where no feature varies. Rows may have `weights` (n_samples,).
        """
        n_rows: float = len(rows)
        if weights is not None:
            counts = at_least_once(weights)
            n_rows, rows = counts.sum(), rows * np.sqrt(counts)[:, None]
        triangle = np.linalg.qr(rows, mode="r")  # has the same directions, and is small where there are many rows
        _, sizes, directions = np.linalg.svd(triangle, full_matrices=False)
        n_kept = min(_MAX_COMPONENTS, int((sizes > _NOTHING * sizes[0]).sum()))
        kept = directions[:n_kept].T
        # The sum of squared singular values is that of all numbers of the kept components.
        length = (np.square(sizes[:n_kept]).sum() / (n_rows * max(1, n_kept))) ** -0.5 if n_kept else 1.0
        return cls(scaling.center, scaling.factor, length * (kept if basis is None else basis @ kept))

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return the components of raw rows: (n_samples, n_components), float64."""
        return BlockScaling(self.center, self.factor).transform(features) @ self.components

    @property
    def length(self) -> float:
        """The norm of each column of `components`."""
        return float(np.linalg.norm(self.components[:, 0])) if self.components.shape[1] else 1.0

    def coefficients(self, scaled: np.ndarray) -> np.ndarray:
        """Convert coefficients (n_outputs, n_features) for scaled rows into those for these rows, transposed.

        Only as far as the components reach, where these are fewer than the features that vary.
        """
        return (scaled @ self.components).T / self.length**2
