"""One Cholesky factorisation, the shared solve, serves the Gaussian processes of all classes.

Each class regresses its own targets with its own noise, but the noise takes two values only: `own` on the examples of
the class and `other` on the rest. With P = (K + other I)^-1, d = other - own and c the examples of a class,

    (K + D_c)^-1  = P + P[:,c] (I/d - P[c,c])^-1 P[c,:]        (Woodbury)
    log|K + D_c|  = log|K + other I| + log|I - d P[c,c]|

so that beyond one factorisation of the whole there are only small ones, of the size of each class. Where an example
counts w times, its noise is a w-th part: I/d becomes diag(w)/d, and the rest stays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from repurpose.meta_model.gp.jitter import cholesky
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table, Whole

__all__ = ["SharedSolve", "solve"]


@storable
@dataclass(frozen=True, eq=False)
class SharedSolve:
    """One symmetric matrix for each class, held together: A_c^-1 = `P` + W_c W_c^T, W_c the columns of `W` of class c.

    Attributes
    ----------
    P : float64 tensor of shape (n, n)
    W : float64 tensor of shape (n, n_columns)
    class_of_column : int64 tensor of shape (n_columns,)
    n_classes : int
    """

    P: Tensor
    W: Tensor
    class_of_column: Tensor
    n_classes: int

    _schema: ClassVar[Table] = {
        "P": Array("n_points", "n_points", tensor=True),
        "W": Array("n_points", "n_columns", tensor=True),
        "class_of_column": Array("n_columns", dtypes="int64", least=0, below="n_classes", tensor=True),
        "n_classes": Whole("n_classes", "n_classes"),
    }

    def weights(self, vectors: Tensor) -> Tensor:
        """Compute A_c^-1 v_c for a column v_c of each class: (n, n_classes) to the same shape."""
        inner = (self.W.T @ vectors).mul_(self.own_columns)  # the columns of a class meet its own vector only
        return torch.addmm(self.P @ vectors, self.W, inner)

    def blocks(self, rows: Tensor) -> Tensor:
        """Return the entries of each A_c^-1 where both row and column are in `rows`: (n_classes, n_rows, n_rows)."""
        part, own = self.W[rows], self.P[rows][:, rows]
        if self.n_classes < len(rows):  # large groups of few classes
            columns = (part[:, self.class_of_column == code] for code in range(self.n_classes))
            return torch.stack([torch.addmm(own, of_class, of_class.T) for of_class in columns])
        products = part.new_zeros(len(rows), len(rows), self.n_classes)
        # Row by row: all products at once would be n_rows^2 n numbers.
        for row, out in zip(part, products):
            out.copy_(self._summed_by_class(part * row))
        return products.permute(2, 0, 1) + own

    def quadratic_forms(self, vectors: Tensor) -> Tensor:
        """Compute k^T A_c^-1 k for each row k of `vectors`: (n_rows, n) to (n_rows, n_classes)."""
        plain = (vectors @ self.P).mul_(vectors).sum(1, keepdim=True)
        return self._summed_by_class((vectors @ self.W).square_()).add_(plain)

    def sum(self) -> Tensor:
        """Return the sum of the A_c^-1 over the classes: (n, n)."""
        return torch.addmm(self.P, self.W, self.W.T, beta=self.n_classes)

    @property
    def own_columns(self) -> Tensor:
        """1 where a column belongs to a class, else 0: (n_columns, n_classes)."""
        return torch.nn.functional.one_hot(self.class_of_column, self.n_classes).to(self.P.dtype)

    def _summed_by_class(self, columns: Tensor) -> Tensor:
        summed = columns.new_zeros(len(columns), self.n_classes)
        return summed.index_add_(1, self.class_of_column, columns)


def solve(
    kernel: Tensor, class_sizes: Sequence[int], *, own: float, other: float, repeats: Tensor | None = None
) -> tuple[SharedSolve, float]:
    """Return the inverses of K + D_c, and the sum of log|K + D_c| over the classes.

    `kernel` is (n_samples, n_samples) with rows sorted by class, `own` < `other` are the variances of the noise, to be
    divided by `repeats` (n_samples,). Raises ValueError as `cholesky` does.
    """
    n_samples, difference = len(kernel), other - own
    factor = cholesky(kernel, other if repeats is None else other / repeats)
    P = torch.cholesky_inverse(factor)
    log_determinants = len(class_sizes) * 2 * factor.diagonal().log().sum() + n_samples * log(difference)
    W = torch.empty_like(P)
    # log|I - d P_cc| = log|I/d - P_cc| + n_c log d; the sum of the second is `n_samples * log(difference)`.
    for members in _members_by_size(class_sizes):
        inner = P[members[:, :, None], members[:, None, :]].neg_()
        inner.diagonal(dim1=1, dim2=2).add_(1 / difference if repeats is None else repeats[members] / difference)
        inner = torch.linalg.cholesky(inner)
        # W_c = P_:c L^-T for L L^T = I/d - P_cc, so that W_c W_c^T is the change of Woodbury's formula.
        columns = torch.linalg.solve_triangular(inner, P[members], upper=False)
        W[:, members.flatten()] = columns.flatten(0, 1).T
        log_determinants += 2 * inner.diagonal(dim1=1, dim2=2).log().sum()
    if repeats is not None:
        log_determinants -= repeats.log().sum()
    class_of_row = torch.repeat_interleave(torch.arange(len(class_sizes)), torch.as_tensor(class_sizes))
    return SharedSolve(P, W, class_of_row, len(class_sizes)), float(log_determinants)


def _members_by_size(class_sizes: Sequence[int]) -> Iterator[Tensor]:
    """Yield the rows of all classes of a size, (n_such_classes, size), for each size: many small classes go at once."""
    sizes = torch.as_tensor(class_sizes)
    starts = sizes.cumsum(0) - sizes
    for size in sizes.unique().tolist():
        yield starts[sizes == size, None] + torch.arange(size)
