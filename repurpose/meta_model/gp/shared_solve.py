"""Inverses of the matrices of all classes are held together, by what they share and some columns for each class.

`exact_solve` makes them with fewer numbers where points are the examples; `inducing` has columns of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table, Whole

__all__ = ["SharedSolve"]


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
        """Return the entries of each A_c^-1 where both row and column are in a set of rows.

        `rows` (n_sets, n_rows) to (n_sets, n_classes, n_rows, n_rows).
        """
        found = self.P[rows[:, :, None], rows[:, None, :]][:, None].repeat(1, self.n_classes, 1, 1)
        ends = torch.bincount(self.class_of_column, minlength=self.n_classes).cumsum(0).tolist()  # sorted by class
        for c, (start, end) in enumerate(zip([0, *ends], ends)):
            columns = self.W[:, start:end][rows]
            found[:, c].baddbmm_(columns, columns.mT)
        return found

    def sum(self) -> Tensor:
        """Return the sum of the A_c^-1 over the classes: (n, n)."""
        return torch.addmm(self.P, self.W, self.W.T, beta=self.n_classes)

    def with_columns(self) -> "SharedSolve":
        """Return this: `ExactSolve` is the one that has no columns yet."""
        return self

    def products(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return `vectors` (n_rows, n) times `P` and times `W`."""
        return vectors @ self.P, vectors @ self.W

    def quadratic_forms(self, vectors: Tensor) -> Tensor:
        """Compute k^T A_c^-1 k for each row k of `vectors`: (n_rows, n) to (n_rows, n_classes)."""
        plain = (vectors @ self.P).mul_(vectors).sum(1, keepdim=True)
        return self._summed_by_class((vectors @ self.W).square_()).add_(plain)

    @property
    def own_columns(self) -> Tensor:
        """1 where a column belongs to a class, else 0: (n_columns, n_classes)."""
        return torch.nn.functional.one_hot(self.class_of_column, self.n_classes).to(self.P.dtype)

    def _summed_by_class(self, columns: Tensor) -> Tensor:
        summed = columns.new_zeros(len(columns), self.n_classes)
        return summed.index_add_(1, self.class_of_column, columns)
