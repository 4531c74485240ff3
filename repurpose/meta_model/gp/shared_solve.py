"""The shared solve: one Cholesky factorisation serves the Gaussian processes of all classes.

Each class regresses its own targets with its own noise, but the noise takes two values only: `own` on the examples of
the class and `other` on the rest. With P = (K + other I)^-1, d = other - own and c the examples of a class,

    (K + D_c)^-1  = P + P[:,c] (I/d - P[c,c])^-1 P[c,:]        (Woodbury)
    log|K + D_c|  = log|K + other I| + log|I - d P[c,c]|

so that beyond one factorisation of the whole there are only small ones, of the size of each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repurpose.meta_model.gp.jitter import cholesky

__all__ = ["SharedSolve"]


@dataclass(frozen=True, eq=False)
class SharedSolve:
    """The inverses A_c^-1 of A_c = K + D_c for every class, held together.

    The rows are sorted by class. A_c^-1 = `P` + W_c W_c^T, where W_c are the columns of `W` that belong to class c.

    Attributes
    ----------
    P, W : float64 tensors of shape (n_samples, n_samples)
    class_of_row : int64 tensor of shape (n_samples,), growing
    n_classes : int
    log_determinant : float
        The sum of log|A_c| over the classes.
    """

    P: Tensor
    W: Tensor
    class_of_row: Tensor
    n_classes: int
    log_determinant: float

    @classmethod
    def of(cls, kernel: Tensor, class_sizes: Sequence[int], own: float, other: float) -> "SharedSolve":
        """Factorise for a kernel matrix (n_samples, n_samples) whose rows are sorted by class."""
        n_samples, difference = len(kernel), other - own
        factor = cholesky(kernel, other)
        P = torch.cholesky_inverse(factor)
        log_determinant = len(class_sizes) * 2 * factor.diagonal().log().sum()
        W = torch.empty_like(P)
        start = 0
        for size in class_sizes:
            rows = slice(start, start + size)
            start += size
            inner = torch.linalg.cholesky(torch.eye(size, dtype=P.dtype) / difference - P[rows, rows])
            W[:, rows] = torch.linalg.solve_triangular(inner, P[rows], upper=False).T
            log_determinant += 2 * inner.diagonal().log().sum()
        log_determinant += n_samples * torch.log(torch.tensor(difference, dtype=P.dtype))
        class_of_row = torch.repeat_interleave(torch.arange(len(class_sizes)), torch.tensor(class_sizes))
        return cls(P, W, class_of_row, len(class_sizes), float(log_determinant))

    def weights(self, vectors: Tensor) -> Tensor:
        """A_c^-1 v_c for a column v_c of each class: (n_samples, n_classes) to the same shape."""
        inner = self.W.T @ vectors  # only the rows of a class meet its own column
        return self.P @ vectors + self.W @ (inner * self._own_columns)

    def diagonals(self) -> Tensor:
        """The diagonal of each A_c^-1: (n_samples, n_classes)."""
        return self.P.diagonal()[:, None] + self._summed_by_class(self.W.square())

    def quadratic_forms(self, cross: Tensor) -> Tensor:
        """k^T A_c^-1 k for each row k of `cross`: (n_rows, n_samples) to (n_rows, n_classes)."""
        plain = ((cross @ self.P) * cross).sum(1, keepdim=True)
        return plain + self._summed_by_class((cross @ self.W).square())

    def sum_of_inverses(self) -> Tensor:
        """The sum of the A_c^-1 over the classes: (n_samples, n_samples)."""
        return torch.addmm(self.P, self.W, self.W.T, beta=self.n_classes)

    @property
    def _own_columns(self) -> Tensor:
        return torch.nn.functional.one_hot(self.class_of_row, self.n_classes).to(self.P.dtype)

    def _summed_by_class(self, columns: Tensor) -> Tensor:
        summed = columns.new_zeros(len(columns), self.n_classes)
        return summed.index_add_(1, self.class_of_row, columns)
