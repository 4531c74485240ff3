"""One Cholesky factorisation, the shared solve, serves the Gaussian processes of all classes.

Each class regresses its own targets with its own noise, but the noise takes two values only: `own` on the examples of
the class and `other` on the rest. With P = (K + other I)^-1, d = other - own and c the examples of a class,

    (K + D_c)^-1  = P + P[:,c] M_c P[c,:],   M_c = (I/d - P[c,c])^-1        (Woodbury)
    log|K + D_c|  = log|K + other I| + log|I - d P[c,c]|

so that beyond one factorisation of the whole there are only small ones, of the size of each class. Where an example
counts w times, its noise is a w-th part: I/d becomes diag(w)/d, and the rest stays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.jitter import cholesky
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Table, Whole

__all__ = ["ExactSolve", "large", "solve"]


@storable
@dataclass(frozen=True, eq=False)
class ExactSolve:
    """One symmetric matrix for each class, held together: A_c^-1 = `P` + P[:,c] M_c P[c,:]. Rows are sorted by class.

    Attributes
    ----------
    P : float64 tensor of shape (n, n)
    inner : float64 tensor of shape (n, size of the largest class)
        In the rows of a class its M_c, and zeros behind that.
    class_of_row : int64 tensor of shape (n,)
    n_classes : int
    log_determinant : float
        log|P^-1|, which a class without rows has.
    log_determinants : float64 tensor of shape (n_classes,)
        log|A_c| of each class.
    """

    P: Tensor
    inner: Tensor
    class_of_row: Tensor
    n_classes: int
    log_determinant: float
    log_determinants: Tensor

    _schema: ClassVar[Table] = {
        "P": Array("n_points", "n_points", tensor=True),
        "inner": Array("n_points", "size_of_largest_class", tensor=True),
        "class_of_row": Array("n_points", dtypes="int64", least=0, below="n_classes", tensor=True),
        "n_classes": Whole("n_classes", "n_classes"),
        "log_determinant": Number(),
        "log_determinants": Array("n_classes", tensor=True),
    }

    def with_classes(self, new_code: Tensor, n_classes: int) -> "ExactSolve":
        """Return the solve where classes have the numbers `new_code`, -1 for one that is gone, and others are new."""
        log_determinants = torch.full((n_classes,), self.log_determinant, dtype=self.P.dtype)
        log_determinants[new_code[new_code >= 0]] = self.log_determinants[new_code >= 0]
        return replace(
            self, class_of_row=new_code[self.class_of_row], n_classes=n_classes, log_determinants=log_determinants
        )

    def of_ones_and_own(self) -> tuple[Tensor, Tensor]:
        """Compute A_c^-1 v for two v of each class, 1 for all examples and 1 for its own: (n, n_classes) each."""
        sums = self.P.sum(1)
        of_ones, of_own = sums[:, None].repeat(1, self.n_classes), torch.zeros(len(sums), self.n_classes).double()
        for c, rows in self.members():
            M = self.of_class(rows)
            y = torch.stack([M @ sums[rows], 1 + M @ self.P[rows, rows].sum(1)])
            spread = y @ self.P[rows]
            of_ones[:, c] += spread[0]
            of_own[:, c] = spread[1]
        return of_ones, of_own

    def quadratic_forms(self, vectors: Tensor) -> Tensor:
        """Compute k^T A_c^-1 k for each row k of `vectors`: (n_rows, n) to (n_rows, n_classes)."""
        spread = vectors @ self.P
        found = torch.einsum("ij,ij->i", spread, vectors)[:, None].repeat(1, self.n_classes)
        for classes, members in members_by_size(self.sizes):
            of_classes = spread[:, members].transpose(0, 1)
            M = self.inner[members, : members.shape[1]]
            found[:, classes] += torch.bmm(of_classes, M).mul_(of_classes).sum(2).T
        return found

    def with_columns(self) -> SharedSolve:
        """Return the same with a column for each row: A_c^-1 = P + W_c W_c^T, in n^2 more numbers."""
        return SharedSolve(self.P, self.W, self.class_of_row, self.n_classes)

    @property
    def W(self) -> Tensor:
        """W_c = P[:,c] R_c with M_c = R_c R_c^T, side by side: (n, n)."""
        return self._columns(self.P)

    def products(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return `vectors` (n_rows, n) times `P` and times `W`."""
        spread = vectors @ self.P
        return spread, self._columns(spread)

    def _columns(self, spread: Tensor) -> Tensor:
        found = large(*spread.shape)
        for _, members in members_by_size(self.sizes):
            roots = torch.linalg.cholesky(self.inner[members, : members.shape[1]])
            found[:, members] = torch.bmm(spread[:, members].transpose(0, 1), roots).transpose(0, 1)
        return found

    def sum(self) -> Tensor:
        """Return the sum of the A_c^-1 over the classes: (n, n)."""
        spread = large(*self.P.shape)
        for _, members in members_by_size(self.sizes):
            of_classes = torch.bmm(self.inner[members, : members.shape[1]], self.P[members])
            spread[members.flatten()] = of_classes.flatten(0, 1)
        return torch.addmm(self.P, self.P, spread, beta=self.n_classes)

    def of_class(self, rows: slice) -> Tensor:
        """Return M_c, (size, size), of the class that has these rows: a view."""
        return self.inner[rows, : rows.stop - rows.start]

    def members(self) -> Iterator[tuple[int, slice]]:
        """Yield each class that has rows, with these."""
        ends = self.sizes.cumsum(0).tolist()
        for c, (start, end) in enumerate(zip([0, *ends], ends)):
            if end > start:
                yield c, slice(start, end)

    @property
    def sizes(self) -> Tensor:
        """How many rows each class has: int64 (n_classes,)."""
        return torch.bincount(self.class_of_row, minlength=self.n_classes)

    @property
    def own_columns(self) -> Tensor:
        """1 where a row is of a class, else 0: (n, n_classes)."""
        return torch.nn.functional.one_hot(self.class_of_row, self.n_classes).to(self.P.dtype)

    @property
    def class_of_column(self) -> Tensor:
        """The class of each column of `W`, which is that of the row."""
        return self.class_of_row


def solve(
    kernel: Tensor, class_sizes: Sequence[int], *, own: float, other: float, repeats: Tensor | None = None
) -> ExactSolve:
    """Return the inverses of K + D_c.

    `kernel` is (n_samples, n_samples) with rows sorted by class, `own` < `other` are the variances of the noise, to be
    divided by `repeats` (n_samples,). Raises ValueError as `cholesky` does.
    """
    difference, sizes = other - own, torch.as_tensor(class_sizes)
    factor = cholesky(kernel, other if repeats is None else other / repeats)
    P = torch.cholesky_inverse(factor)
    log_determinant = 2 * float(factor.diagonal().log().sum())
    inner, inner_determinants = torch.zeros(len(P), max(class_sizes), dtype=P.dtype), torch.zeros(len(sizes)).double()
    class_of_row = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    noise = torch.full((len(P),), difference, dtype=P.dtype) if repeats is None else difference / repeats
    for classes, members in members_by_size(sizes):
        blocks = P[members[:, :, None], members[:, None, :]].neg_()
        blocks.diagonal(dim1=1, dim2=2).add_(1 / noise[members])
        blocks = torch.linalg.cholesky(blocks)
        inner[members, : members.shape[1]] = torch.cholesky_inverse(blocks)
        # log|I - d P_cc| = log|I/d - P_cc| + n_c log d
        diagonals = 2 * blocks.diagonal(dim1=1, dim2=2).log() + noise[members].log()
        inner_determinants[classes] = diagonals.sum(1)
    return ExactSolve(P, inner, class_of_row, len(sizes), log_determinant, log_determinant + inner_determinants)


def members_by_size(class_sizes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the classes of each size but 0, with their rows (n_such_classes, size): many small ones go at once."""
    starts = class_sizes.cumsum(0) - class_sizes
    for size in class_sizes.unique().tolist():
        if size:
            classes = torch.nonzero(class_sizes == size).flatten()
            yield classes, starts[classes, None] + torch.arange(size)


def large(*shape: int) -> Tensor:
    """Return a float64 tensor whose numbers are not set yet.

    numpy asks the system for huge pages, without which the first touch of 200 MB takes five times as long as a product
    of them with a vector.
    """
    return torch.from_numpy(np.empty(shape))
