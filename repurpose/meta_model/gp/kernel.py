"""The kernel: for each feature layer a radial one and a linear one, with scales that the evidence weighs by itself.

    k(x, x') = sum over layers l of  a_l exp(-|x_l - x'_l|^2 / (2 s_l^2)) + b_l <x_l, x'_l>

on rows that were centred and brought to unit norm layer by layer. There |x - x'|^2 = 2 - 2 <x, x'>, so the matrix of
products of each layer, made once, is all that a likelihood evaluation needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["LayerKernels"]


@dataclass(frozen=True, eq=False)
class LayerKernels:
    """Hyper-parameters, float64 arrays of shape (n_layers,), all positive.

    Attributes
    ----------
    radial, linear : ndarray
        The scales a and b: variances of the latent function.
    lengthscale : ndarray
        s, in units of the norm of a row, which is 1.
    """

    radial: np.ndarray
    lengthscale: np.ndarray
    linear: np.ndarray

    @classmethod
    def from_logarithms(cls, theta: np.ndarray) -> "LayerKernels":
        """From the vector (log a, log s, log b) of shape (3 n_layers,)."""
        return cls(*np.exp(theta).reshape(3, -1))

    @property
    def logarithms(self) -> np.ndarray:
        return np.log(np.concatenate([self.radial, self.lengthscale, self.linear]))

    def matrix(self, products: Sequence[Tensor], squares: Sequence[Tensor]) -> Tensor:
        """The kernel between rows with the given inner products and squared distances, one matrix a layer."""
        total = torch.zeros_like(products[0])
        for a, s, b, product, square in zip(self.radial, self.lengthscale, self.linear, products, squares):
            total.add_(torch.exp(square * (-0.5 / s**2)), alpha=a).add_(product, alpha=b)
        return total

    def gradient(self, products: Sequence[Tensor], squares: Sequence[Tensor], by_entry: Tensor) -> np.ndarray:
        """The derivative by `logarithms` of a function whose derivative by each kernel entry is `by_entry`."""
        radial, lengthscale, linear = [], [], []
        for a, s, b, product, square in zip(self.radial, self.lengthscale, self.linear, products, squares):
            bell = torch.exp(square * (-0.5 / s**2)).mul_(by_entry)
            radial.append(a * float(bell.sum()))
            lengthscale.append(a / s**2 * float((bell * square).sum()))
            linear.append(b * float((by_entry * product).sum()))
        return np.array(radial + lengthscale + linear)
