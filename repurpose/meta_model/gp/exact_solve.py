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
from functools import lru_cache
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.jitter import cholesky
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Object, Sizes, Table, Whole

__all__ = ["ClassBatch", "ExactSolve", "ExactSolveSchema", "class_batches", "large", "solve"]

_SMALLEST = 0.7  # of the largest class of a batch, to whose size others are filled up: time is its third power


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
        sums, spread = self.P.sum(1), torch.zeros(self.n_classes, 2, len(self.P)).double()
        for c, rows in self.members():
            vectors = torch.stack([sums[rows], self.P[rows, rows].sum(1)]) @ self.of_class(rows)
            vectors[1] += 1
            torch.mm(vectors, self.P[rows], out=spread[c])
        return spread[:, 0].T + sums[:, None], spread[:, 1].T

    def quadratic_forms(self, vectors: Tensor) -> Tensor:
        """Compute k^T A_c^-1 k for each row k of `vectors`: (n_rows, n) to (n_rows, n_classes)."""
        spread = vectors @ self.P
        found = torch.einsum("ij,ij->i", spread, vectors)[:, None].repeat(1, self.n_classes)
        for batch in self.batches:
            of_classes = spread[:, batch.rows].transpose(0, 1)
            M = batch.blocks_in(self.inner)
            found[:, batch.classes] += torch.bmm(of_classes, M).mul_(of_classes).sum(2).T
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
        for batch in self.batches:
            roots = torch.linalg.cholesky(batch.blocks_in(self.inner, fill=1.0))
            columns = torch.bmm(spread[:, batch.rows].transpose(0, 1), roots).transpose(0, 1)
            found[:, batch.rows[batch.is_row]] = columns[:, batch.is_row]
        return found

    def sum(self) -> Tensor:
        """Return the sum of the A_c^-1 over the classes: (n, n)."""
        spread = large(*self.P.shape)
        for batch in self.batches:
            of_classes = torch.bmm(batch.blocks_in(self.inner), self.P[batch.rows])
            spread[batch.rows[batch.is_row]] = of_classes[batch.is_row]
        return torch.addmm(self.P, self.P, spread, beta=self.n_classes)

    def of_class(self, rows: slice) -> Tensor:
        """Return M_c, (size, size), of the class that has these rows: a view."""
        return self.inner[rows, : rows.stop - rows.start]

    def members(self) -> Iterator[tuple[int, slice]]:
        """Yield each class that has rows, with these."""
        start = 0
        for c, size in enumerate(self.sizes):
            if size:
                yield c, slice(start, start + size)
            start += size

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many rows each class has."""
        return tuple(torch.bincount(self.class_of_row, minlength=self.n_classes).tolist())

    @property
    def batches(self) -> "Sequence[ClassBatch]":
        """All classes that have rows."""
        return class_batches(self.sizes)

    @property
    def own_columns(self) -> Tensor:
        """1 where a row is of a class, else 0: (n, n_classes)."""
        return torch.nn.functional.one_hot(self.class_of_row, self.n_classes).to(self.P.dtype)

    @property
    def class_of_column(self) -> Tensor:
        """The class of each column of `W`, which is that of the row."""
        return self.class_of_row


class ExactSolveSchema(Object):
    """An `ExactSolve` whose rows are sorted by class, with room for the block of each."""

    def __init__(self) -> None:
        super().__init__(ExactSolve)

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check the class, each attribute, and what they are beside each other."""
        super().check(value, where, sizes)
        solve = cast(ExactSolve, value)
        if (solve.class_of_row.diff() < 0).any():
            raise ValueError(f"its {where}.class_of_row is not sorted")
        if solve.inner.shape[1] < max(solve.sizes):
            raise ValueError(f"its {where}.inner has {solve.inner.shape[1]} columns, fewer than a class has rows")


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
    inner, inner_determinants = torch.zeros(len(P), max(class_sizes)).double(), torch.zeros(len(sizes)).double()
    noise = torch.full((len(P),), difference, dtype=P.dtype) if repeats is None else difference / repeats
    for batch in class_batches(tuple(class_sizes)):
        factors = torch.linalg.cholesky(batch.diagonal_less(1 / noise, P))
        inner[batch.rows[batch.is_row], : factors.shape[1]] = torch.cholesky_inverse(factors)[batch.is_row]
        # log|I - d P_cc| = log|I/d - P_cc| + n_c log d
        diagonals = 2 * factors.diagonal(dim1=1, dim2=2).log() + batch.is_row * noise[batch.rows].log()
        inner_determinants[batch.classes] = diagonals.sum(1)
    class_of_row = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return ExactSolve(P, inner, class_of_row, len(sizes), log_determinant, log_determinant + inner_determinants)


@dataclass(frozen=True, eq=False)
class ClassBatch:
    """Some classes of about one size, which are computed together, and their rows, where rows are sorted by class.

    Attributes
    ----------
    classes : int64 tensor of shape (n_batch,)
    rows : int64 tensor of shape (n_batch, width)
        The rows of each class; behind them any others, which stand for nothing.
    is_row : bool tensor of shape (n_batch, width)
        Which are rows of the class.
    """

    classes: Tensor
    rows: Tensor
    is_row: Tensor

    def diagonal_less(self, diagonal: Tensor, matrix: Tensor) -> Tensor:
        """Return a diagonal matrix less another, (n,) and (n, n), between the rows of each class.

        (n_batch, width, width), with the unit matrix in what is filled up.
        """
        blocks = matrix[self.rows[:, :, None], self.rows[:, None, :]].neg_()
        blocks *= self.is_row[:, :, None] & self.is_row[:, None, :]
        blocks.diagonal(dim1=1, dim2=2).add_(torch.where(self.is_row, diagonal[self.rows], 1.0))
        return blocks

    def blocks_in(self, inner: Tensor, fill: float = 0.0) -> Tensor:
        """Return the blocks that the rows of `inner` (n, at least width) begin with, where zeros are behind each.

        (n_batch, width, width), with `fill` on the diagonal of what is filled up.
        """
        blocks = inner[self.rows, : self.rows.shape[1]] * self.is_row[:, :, None]
        if fill:
            blocks.diagonal(dim1=1, dim2=2).add_(torch.where(self.is_row, 0.0, fill))
        return blocks


@lru_cache(maxsize=16)
def class_batches(sizes: tuple[int, ...]) -> Sequence[ClassBatch]:
    """Return all classes that have rows in batches, for classes of these sizes."""
    of_class = torch.as_tensor(sizes, device="cpu")  # whatever the default is now, as others will be given this
    starts, batches = of_class.cumsum(0) - of_class, []
    left = [c for c in torch.argsort(of_class, descending=True, stable=True).tolist() if sizes[c]]
    while left:
        width = sizes[left[0]]
        classes = torch.tensor([c for c in left if sizes[c] >= _SMALLEST * width], device="cpu")
        left = left[len(classes) :]
        places = torch.arange(width, device="cpu")
        is_row = places < of_class[classes, None]
        batches.append(ClassBatch(classes, torch.where(is_row, starts[classes, None] + places, 0), is_row))
    return batches


def large(*shape: int) -> Tensor:
    """Return a float64 tensor whose numbers are not set yet.

    numpy asks the system for huge pages, without which the first touch of 200 MB takes five times as long as a product
    of them with a vector.
    """
    return torch.from_numpy(np.empty(shape))
