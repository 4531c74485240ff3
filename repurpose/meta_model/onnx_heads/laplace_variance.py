"""The variance of the logits under a Laplace approximation, as a sum of squares."""

import numpy as np
from torch import Tensor, nn

from repurpose.meta_model.onnx_heads.numbers import double

__all__ = ["LaplaceVariance"]


class LaplaceVariance(nn.Module):
    """Maps features to the variance of the centred logits, averaged over the classes: (n_rows,).

    With the rows x in the space of the training rows, a 1 beside them, the variance is `share` times the sum of
    ``rates * (x vectors)^2``, and of what lies outside that space, of which each latent value has the prior's variance.

    Parameters
    ----------
    center, factor : ndarray of shape (n_features,)
        Rows become (x - `center`) * `factor`.
    row_space : ndarray of shape (n_features, n_inside) or None
        Orthonormal columns that span the training rows; None where these span everything.
    vectors, rates : ndarray of shape (n_inside + 1, n_inside + 1), (n_inside + 1,)
        Directions, and the variance of all latent values together in each.
    share, outside : float
        What the sum is multiplied by, and what the squared norm outside counts in it.
    """

    center: Tensor
    factor: Tensor
    vectors: Tensor
    rates: Tensor
    share: Tensor
    outside: Tensor
    row_space: Tensor | None

    def __init__(
        self,
        center: np.ndarray,
        factor: np.ndarray,
        row_space: np.ndarray | None,
        vectors: np.ndarray,
        rates: np.ndarray,
        *,
        share: float,
        outside: float,
    ) -> None:
        super().__init__()
        for name, values in {"center": center, "factor": factor, "vectors": vectors, "rates": rates}.items():
            self.register_buffer(name, double(values))
        self.register_buffer("share", double(share))
        self.register_buffer("outside", double(outside))
        self.register_buffer("row_space", None if row_space is None else double(row_space))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to variances (n_rows,), float64."""
        rows = (features.double() - self.center) * self.factor
        inside = rows if self.row_space is None else rows @ self.row_space
        along = inside @ self.vectors[:-1] + self.vectors[-1]
        total = along.square() @ self.rates
        if self.row_space is not None:
            rest = rows - (self.row_space @ inside.T).T
            total = total + self.outside * rest.square().sum(dim=1)
        return self.share * total
