"""The latent functions of a Gaussian process at some rows at once, with the covariance between these rows.

For rows with the kernel k to the examples, A_c^-1 = P + W_c W_c^T gives the posterior covariance of class c as

    K - k P k^T - (k W_c) (k W_c)^T

whose first part, `shared`, knows no label: it is the posterior covariance if the noise of all examples were that of
another class.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.jitter import cholesky
from repurpose.meta_model.gp.model import GpModel

__all__ = ["JointLatent"]

_JITTER = 1e-8  # of the mean prior variance: equal rows have a covariance without an inverse


@dataclass(frozen=True, eq=False)
class JointLatent:
    """The posterior of the latent functions at `n_rows` rows.

    Attributes
    ----------
    means : float64 tensor of shape (n_rows, n_classes)
    shared : float64 tensor of shape (n_rows, n_rows)
    columns : float64 tensor of shape (n_rows, n_columns)
        k W, with the class of each column in `class_of_column`.
    class_of_column : int64 tensor of shape (n_columns,)
    jitter : float
        What makes covariances positive definite.
    """

    means: Tensor
    shared: Tensor
    columns: Tensor
    class_of_column: Tensor
    jitter: float

    @classmethod
    def of(cls, model: GpModel, matrix: np.ndarray) -> "JointLatent":
        """Compute them for raw features (n_rows, n_features)."""
        rows = model.rows.transform(matrix)
        kernel = model.kernel
        prior, cross = kernel.between(rows, rows), kernel.between(rows, model.points)  # type: ignore[union-attr]
        spread, columns = model.solve.products(cross)
        shared = torch.addmm(prior, spread, cross.T, alpha=-1)
        jitter = _JITTER * float(prior.diagonal().mean())
        return cls(model.mean + cross @ model.weights, shared, columns, model.solve.class_of_column, jitter)

    def covariance(self, c: int) -> Tensor:
        """Return the covariance of the latent function of class `c` between all rows: (n_rows, n_rows)."""
        of_class = self.columns[:, self.class_of_column == c]
        return torch.addmm(self.shared, of_class, of_class.T, alpha=-1)

    @property
    def variances(self) -> Tensor:
        """The variance of each latent function at each row: float64 (n_rows, n_classes)."""
        found = self.shared.diagonal()[:, None].repeat(1, self.means.shape[1])
        return found.index_add_(1, self.class_of_column, self.columns.square(), alpha=-1)

    def average_covariance(self) -> Tensor:
        """Return the covariance between all rows, averaged over the classes: (n_rows, n_rows)."""
        return torch.addmm(self.shared, self.columns, self.columns.T, alpha=-1 / self.means.shape[1])

    def covariances_with(self, row: int) -> Tensor:
        """Return the covariance of each class between all rows and one of them: (n_rows, n_classes)."""
        found = self.shared[:, row, None].repeat(1, self.means.shape[1])
        return found.index_add_(1, self.class_of_column, self.columns * self.columns[row], alpha=-1)

    def deviations(self, n_draws: int, random_state: np.random.RandomState) -> Tensor:
        """Draw the latent functions jointly at all rows, less their means: float64 (n_draws, n_rows, n_classes)."""
        n_rows, n_classes = self.means.shape
        drawn = torch.empty(n_draws, n_rows, n_classes, dtype=torch.float64)
        for c in range(n_classes):
            normal = torch.from_numpy(random_state.standard_normal((n_draws, n_rows)))
            drawn[:, :, c] = normal @ cholesky(self.covariance(c), self.jitter).T
        return drawn
