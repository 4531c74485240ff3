"""The posterior through inducing points is added up over blocks of rows: what `gp.inducing` computes of all at once.

In its words, a class leaves behind B_c where it has fewer examples than there are points, and B_c B_c^T where it has
more, whose root serves as well: 8 bytes for each point times the smaller of the two, summed over classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel
from repurpose.meta_model.gp.inducing import ClassSums, SparsePosterior, columns_of_class, factor_of_points, unwhitened
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.subset import class_sizes, stratified_subset
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.sharded.blocks import TrainingBlocks

__all__ = ["KernelRows", "SortedRows", "condition_on_blocks"]

_ELEMENTS = 2**21  # of a block's kernel matrix: 16 MB, of which some five are in memory
_NOTHING = 1e-13  # of the largest eigenvalue of B_c B_c^T: rounding


@dataclass(frozen=True, eq=False)
class SortedRows:
    """Rows of the kernel, layer by layer, sorted by class; `codes`, `repeats` and `groups` are (n_rows,) or None."""

    rows: list[Tensor]
    codes: np.ndarray
    repeats: Tensor | None
    groups: np.ndarray | None = None

    @property
    def sizes(self) -> list[int]:
        return class_sizes(self.codes)


@dataclass(frozen=True, eq=False)
class KernelRows:
    """Rows in blocks as the kernel takes them."""

    blocks: TrainingBlocks
    scaling: LayerRows

    @cached_property
    def by_class(self) -> np.ndarray:
        return self.blocks.rows_by_class()

    @cached_property
    def class_sizes(self) -> np.ndarray:
        return np.bincount(self.blocks.codes[self.by_class])

    def subset(self, size: int, random_state: np.random.RandomState) -> SortedRows:
        """Read a stratified subset of about `size` rows."""
        rows = self.by_class[stratified_subset(self.blocks.codes[self.by_class], size, random_state)]
        matrix = self.blocks.take(rows).matrix
        for place in np.flatnonzero(np.isin(rows, list(self.blocks.outliers))).tolist():
            matrix[place] = self.blocks.outliers[int(rows[place])]
        weights, groups = self.blocks.weights, self.blocks.groups
        repeats = None if weights is None else torch.from_numpy(weights[rows])
        return SortedRows(
            self.scaling.transform(matrix), self.blocks.codes[rows], repeats, None if groups is None else groups[rows]
        )

    def in_blocks(self, n_rows: int) -> Iterator[SortedRows]:
        """Yield all rows, each block sorted by class."""
        for block in self.blocks.in_blocks(n_rows):
            order = np.argsort(block.codes, kind="stable")
            repeats = None if block.weights is None else torch.from_numpy(block.weights[order])
            yield SortedRows(self.scaling.transform(block.matrix[order]), block.codes[order], repeats)


def condition_on_blocks(
    kernel: LayerKernels | GpytorchKernel,
    points: list[Tensor],
    rows: KernelRows,
    n_classes: int,
    targets: DirichletTargets,
) -> SparsePosterior:
    """Return the posterior of `condition_by_kernel`, from one pass over the rows. Raises ValueError as it."""
    among = kernel.between(points, points)
    factor = factor_of_points(among)
    left = _left_by_classes(kernel, points, rows, factor)
    shared = torch.zeros_like(among)
    for c in range(n_classes):
        shared += left.product(c)
    shared /= targets.other_noise
    shared.diagonal().add_(1)
    Q = torch.cholesky_inverse(torch.linalg.cholesky(shared))
    of_classes = ClassSums.of(left.sums, left.counts, targets)
    by_ones, by_own = Q @ of_classes.of_ones, Q @ of_classes.of_own
    used, widths = 0, []
    for c in range(n_classes):
        W = columns_of_class(Q, left.root(c), targets)
        by_ones[:, c] -= W @ (W.T @ of_classes.of_ones[:, c])
        by_own[:, c] -= W @ (W.T @ of_classes.of_own[:, c])
        # W_c^T takes the place of what it came from, which has as many rows or more: W is as large as all of memory.
        left.stack[used : used + W.shape[1]] = unwhitened(factor, W).T
        used += W.shape[1]
        widths.append(W.shape[1])
    weights, mean = of_classes.weights(by_ones, by_own)
    P = torch.eye(len(Q), dtype=Q.dtype) - Q
    P = unwhitened(factor, unwhitened(factor, P).T)
    class_of_column = torch.repeat_interleave(torch.arange(n_classes), torch.tensor(widths))
    return SparsePosterior(
        SharedSolve(P, left.stack[:used].T, class_of_column, n_classes), unwhitened(factor, weights), mean
    )


@dataclass(frozen=True, eq=False)
class _Left:
    """What blocks leave behind: of each class, in `stack` from `starts[c]` to `starts[c + 1]`, B_c^T or B_c B_c^T.

    `sums` (n_points, n_classes) are those of the B_c by row, `counts` (n_classes,) how often the rows of each count.
    """

    stack: Tensor
    starts: np.ndarray
    is_square: np.ndarray
    sums: Tensor
    counts: Tensor

    def of_class(self, c: int) -> Tensor:
        return self.stack[int(self.starts[c]) : int(self.starts[c + 1])]

    def product(self, c: int) -> Tensor:
        """Return B_c B_c^T."""
        part = self.of_class(c)
        return part if self.is_square[c] else part.T @ part

    def root(self, c: int) -> Tensor:
        """Return B_c, or fewer columns of the same product."""
        part = self.of_class(c)
        if not self.is_square[c]:
            return part.T
        values, vectors = torch.linalg.eigh(part)
        kept = values > _NOTHING * values[-1]
        return vectors[:, kept] * values[kept].sqrt()


def _left_by_classes(
    kernel: LayerKernels | GpytorchKernel, points: list[Tensor], rows: KernelRows, factor: Tensor
) -> _Left:
    sizes, n_points = rows.class_sizes, len(factor)
    starts = np.concatenate([[0], np.minimum(sizes, n_points).cumsum()])
    filled, is_square = starts[:-1].copy(), sizes > n_points
    stack = factor.new_zeros(int(starts[-1]), n_points)
    sums, counts = factor.new_zeros(n_points, len(sizes)), factor.new_zeros(len(sizes))
    for block in rows.in_blocks(max(1, _ELEMENTS // n_points)):
        whitened = torch.linalg.solve_triangular(factor, kernel.between(points, block.rows), upper=False)
        roots = None if block.repeats is None else block.repeats.sqrt()
        whitened = whitened if roots is None else whitened.mul_(roots)
        ends = np.searchsorted(block.codes, np.arange(len(sizes) + 1))
        for c in np.unique(block.codes).tolist():
            here = slice(int(ends[c]), int(ends[c + 1]))
            part = whitened[:, here]
            sums[:, c] += part.sum(1) if roots is None else part @ roots[here]
            counts[c] += part.shape[1] if roots is None else float(roots[here].square().sum())
            if is_square[c]:
                stack[int(starts[c]) : int(starts[c + 1])].addmm_(part, part.T)
            else:
                stack[int(filled[c]) : int(filled[c]) + part.shape[1]] = part.T
                filled[c] += part.shape[1]
    return _Left(stack, starts, is_square, sums, counts)
