"""`KernelMachine`: support vector machines of all classes, whose scores a softmax makes probabilities."""

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.meta_model.onnx_heads.numbers import double

__all__ = ["KernelMachine"]

_DEGREE = 3  # of polynomials


class KernelMachine(nn.Module):
    """Maps features to the softmax of `sharpness` times the scores of support vector machines.

    Parameters
    ----------
    center, factor : ndarray of shape (n_features,)
        Rows become (x - `center`) * `factor`.
    kernel : {"linear", "poly", "rbf", "sigmoid"}
    gamma : float
    support_vectors : ndarray of shape (n_support, n_features)
    weights, offsets : ndarray of shape (n_support, n_classes), (n_classes,)
    sharpness : float
    """

    center: Tensor
    factor: Tensor
    vectors: Tensor
    squares: Tensor
    weights: Tensor
    offsets: Tensor
    gamma: Tensor
    sharpness: Tensor

    def __init__(
        self,
        center: np.ndarray,
        factor: np.ndarray,
        *,
        kernel: str,
        gamma: float,
        support_vectors: np.ndarray,
        weights: np.ndarray,
        offsets: np.ndarray,
        sharpness: float,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        if kernel == "linear":  # one vector a class is enough
            support_vectors, weights = weights.T @ support_vectors, np.eye(weights.shape[1])
        self.register_buffer("center", double(center))
        self.register_buffer("factor", double(factor))
        self.register_buffer("vectors", double(support_vectors.T))
        self.register_buffer("squares", double(np.square(support_vectors).sum(axis=1)))
        self.register_buffer("weights", double(weights))
        self.register_buffer("offsets", double(offsets))
        self.register_buffer("gamma", double(gamma))
        self.register_buffer("sharpness", double(sharpness))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to probabilities (n_rows, n_classes), float64."""
        rows = (features.double() - self.center) * self.factor
        values = self._kernel_values(rows, rows @ self.vectors)
        scores = (values if self.kernel == "linear" else values @ self.weights) + self.offsets
        return torch.softmax(self.sharpness * scores, dim=1)

    def _kernel_values(self, rows: Tensor, products: Tensor) -> Tensor:
        """Return the kernel of each row with each vector, (n_rows, n_vectors), as are their inner products."""
        if self.kernel == "linear":
            return products
        if self.kernel == "rbf":
            squares = rows.square().sum(dim=1, keepdim=True) - 2 * products + self.squares
            return torch.exp(-self.gamma * squares.clamp(min=0))
        scaled = self.gamma * products
        return scaled**_DEGREE if self.kernel == "poly" else torch.tanh(scaled)
