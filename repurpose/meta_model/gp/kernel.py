"""The kernel adds a radial and a linear part for each layer, with scales that the evidence weighs by itself.

    k(x, x') = sum over layers l of  a_l exp(-|x_l - x'_l|^2 / (2 s_l^2)) + b_l <x_l, x'_l>

The products <x, x'> and squared distances of each layer, computed once, are all that a likelihood evaluation needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table

__all__ = ["LayerKernels", "Products"]

# As a distance of rows of norm 1: features are float32, and a lengthscale may learn to be a 1,100th of it, for which
# squares that are exact to some 1e-16 make no kernel any more.
_NOTHING = 1e-4


@dataclass(frozen=True, eq=False)
class Products:
    """Between two sets of rows: `inner` products and `squares` of distances, float64 tensors (n, m), one a layer."""

    inner: list[Tensor]
    squares: list[Tensor]

    @classmethod
    def between(cls, rows: Sequence[Tensor], others: Sequence[Tensor]) -> "Products":
        """Compute both for rows given layer by layer: (n_rows, width) and (n_others, width)."""
        inner, squares = [], []
        for x, z in zip(rows, others):
            product = x @ z.T
            square = (_square_norms(x)[:, None] + _square_norms(z)).sub_(product, alpha=2).clamp_min_(0)
            # Rounding would leave rows at a small distance from themselves, where a short lengthscale sees it.
            if x is z:
                square.fill_diagonal_(0)
            inner.append(product)
            squares.append(square)
        return cls(inner, squares)


@storable
@dataclass(frozen=True, eq=False)
class LayerKernels:
    """Hyper-parameters, float64 arrays of shape (n_layers,), all positive.

    Attributes
    ----------
    radial, linear : ndarray
        The scales a and b: variances of the latent function.
    lengthscale : ndarray
        s, in units of the norm of a row, which is about 1.
    """

    radial: np.ndarray
    lengthscale: np.ndarray
    linear: np.ndarray

    _schema: ClassVar[Table] = {
        name: Array("n_layers", least=float(np.finfo(float).tiny)) for name in ("radial", "lengthscale", "linear")
    }

    @classmethod
    def from_logarithms(cls, theta: np.ndarray) -> "LayerKernels":
        """Read the vector (log a, log s, log b) of shape (3 n_layers,)."""
        return cls(*np.exp(theta).reshape(3, -1))

    @classmethod
    def start(cls, products: Products, variance: float, repeats: Tensor | None = None) -> "LayerKernels":
        """Start learning here: `variance` shared out evenly, lengthscales at the median distance between examples.

        The median is over all pairs, those of an example with its own repeats included.
        """
        n_layers, distances = len(products.squares), []
        for square in products.squares:
            distance = _median_of_pairs(square, repeats) ** 0.5
            distances.append(distance if distance > _NOTHING else 1.0)  # 1 where most rows are the same
        share = np.full(n_layers, variance / (2 * n_layers))
        return cls(share, np.array(distances), share)

    @property
    def logarithms(self) -> np.ndarray:
        return np.log(np.concatenate([self.radial, self.lengthscale, self.linear]))

    def matrix(self, products: Products) -> Tensor:
        """Return the kernel matrix (n, m)."""
        total = torch.zeros_like(products.inner[0])
        for a, s, b, inner, square in zip(self.radial, self.lengthscale, self.linear, products.inner, products.squares):
            total.add_(torch.exp(square * (-0.5 / s**2)), alpha=a).add_(inner, alpha=b)
        return total

    def between(self, rows: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the kernel matrix (n_rows, n_others) of rows given layer by layer."""
        return self.matrix(Products.between(rows, others))

    def diagonal(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the kernel of each row with itself: (n,)."""
        squares = (b * _square_norms(x) for b, x in zip(self.linear, rows))
        return sum(squares, torch.full((len(rows[0]),), float(self.radial.sum()), dtype=torch.float64))

    def gradient(self, products: Products, by_entry: Tensor) -> np.ndarray:
        """Return the derivative by `logarithms` of a function whose derivative by each kernel entry is `by_entry`."""
        radial, lengthscale, linear = [], [], []
        for a, s, b, inner, square in zip(self.radial, self.lengthscale, self.linear, products.inner, products.squares):
            # The derivatives by logarithms: each is the parameter times the derivative by itself.
            bell = torch.exp(square * (-0.5 / s**2)).mul_(by_entry)
            radial.append(a * float(bell.sum()))
            lengthscale.append(a / s**2 * float(torch.dot(bell.view(-1), square.view(-1))))
            linear.append(b * float(torch.dot(by_entry.view(-1), inner.view(-1))))
        return np.array(radial + lengthscale + linear)


def _square_norms(rows: Tensor) -> Tensor:
    return torch.einsum("ij,ij->i", rows, rows)  # without a copy of the rows


def _median_of_pairs(square: Tensor, repeats: Tensor | None) -> float:
    """Find the lower median of a symmetric matrix (n, n) over pairs of examples, each counted `repeats` times."""
    rows, columns = np.tril_indices(len(square), -1)
    between = square[rows, columns]
    if repeats is None:
        return float(between.median())
    values = torch.cat([between, torch.zeros_like(repeats)])  # an example is at no distance from its repeats
    counts = torch.cat([repeats[rows] * repeats[columns], (repeats * (repeats - 1) / 2).clamp_min(0)])
    growing = values.argsort()
    below = counts[growing].cumsum(0)
    return float(values[growing][torch.searchsorted(below, below[-1:] / 2)])
