"""Inducing points stand in for many examples: one posterior through them serves all classes at once.

The points stand for the examples as in Titsias (2009). With the kernel K_mm = L L^T between them, B = L^-1 K_mn and
B_c the columns of class c, two values of noise make the inner matrix of class c a shared one and a small change:

    I + B D_c^-1 B^T = S + e B_c B_c^T,   S = I + B B^T / other,   e = 1/own - 1/other

so that again one factorisation serves all classes, by Woodbury's formula. An example that counts w times has a w-th
part of the noise, which is its column of B times the root of w. What comes out has the form of the exact solve:
predictions need K_mm^-1 - (K_mm + K_mn D_c^-1 K_nm)^-1 = P + W_c W_c^T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel
from repurpose.meta_model.gp.jitter import cholesky
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = [
    "ClassSums",
    "SparsePosterior",
    "choose_points",
    "columns_of_class",
    "condition_by_kernel",
    "condition_on_points",
    "factor_of_points",
    "unwhitened",
]

_JITTER = 1e-8  # of the mean diagonal: centres may lie close together, and their kernel need not be exact
_ITERATIONS = 10  # of k-means; which centres precisely matters little


@dataclass(frozen=True, eq=False)
class SparsePosterior:
    """The Gaussian processes of all classes at the inducing points: see `Posterior` for `weights` and `mean`."""

    solve: SharedSolve
    weights: Tensor
    mean: float


def choose_points(
    rows: Sequence[Tensor],
    class_sizes: Sequence[int],
    n_points: int,
    random_state: np.random.RandomState,
    repeats: Tensor | None = None,
) -> list[Tensor]:
    """Choose centres of k-means within each class, in proportion to its examples counted `repeats` times; at least one.

    Points are to cover the rows, so that within a class every different row counts once. `rows`, sorted by class, are
    those of the kernel, layer by layer; so are the points, (n_points, width).
    """
    from sklearn.cluster import KMeans

    beside, start, centers = torch.cat(list(rows), dim=1).numpy(), 0, []
    share = n_points / (len(beside) if repeats is None else float(repeats.sum()))
    for size in class_sizes:
        of_class = slice(start, start + size)
        members = np.unique(beside[of_class], axis=0)  # the same row twice would be a centre twice
        start += size
        count = size if repeats is None else float(repeats[of_class].sum())
        n_centers = min(len(members), max(1, round(share * count)))
        if n_centers == len(members):
            centers.append(members)
            continue
        means = KMeans(n_centers, init="random", n_init=1, max_iter=_ITERATIONS, random_state=random_state)
        centers.append(means.fit(members).cluster_centers_)
    points = torch.from_numpy(np.unique(np.concatenate(centers), axis=0))
    return [part.contiguous() for part in points.split([layer.shape[1] for layer in rows], dim=1)]


def condition_on_points(
    among_points: Tensor,
    to_class: Callable[[int], Tensor],
    class_sizes: Sequence[int],
    targets: DirichletTargets,
    repeats: Tensor | None = None,
) -> SparsePosterior:
    """Return the posterior through m points, in memory for m times the examples, not for their square.

    `among_points` is the kernel matrix (m, m) of the points, ``to_class(c)`` the one between them and the examples of a
    class, (m, class_sizes[c]); each is asked for twice. `repeats` (n_samples,), sorted by class, tells how often each
    example counts. Raises ValueError as `cholesky` does.
    """
    n_points, n_classes = len(among_points), len(class_sizes)
    factor = factor_of_points(among_points)

    roots = None if repeats is None else repeats.sqrt().split(list(class_sizes))

    def whitened(c: int) -> Tensor:
        columns = torch.linalg.solve_triangular(factor, to_class(c), upper=False)
        return columns if roots is None else columns * roots[c]

    shared, sums = torch.zeros_like(among_points), among_points.new_empty(n_points, n_classes)
    for c in range(n_classes):
        of_class = whitened(c)
        shared.addmm_(of_class, of_class.T, alpha=1 / targets.other_noise)
        sums[:, c] = of_class.sum(1) if roots is None else of_class @ roots[c]
    # S = I + B B^T / other has eigenvalues of at least 1: no jitter is needed from here on.
    shared.diagonal().add_(1)
    Q = torch.cholesky_inverse(torch.linalg.cholesky(shared))
    # Whitened again instead of kept: B has as many numbers as points times examples.
    columns = [columns_of_class(Q, whitened(c), targets) for c in range(n_classes)]
    widths = torch.tensor([part.shape[1] for part in columns])
    class_of_column = torch.repeat_interleave(torch.arange(n_classes), widths)
    inner = SharedSolve(-Q, torch.cat(columns, dim=1), class_of_column, n_classes)  # -(I + B D_c^-1 B^T)^-1
    counts = class_sizes if roots is None else [float(part.square().sum()) for part in roots]
    of_classes = ClassSums.of(sums, torch.tensor(counts, dtype=Q.dtype), targets)
    solved = (inner.weights(of_classes.of_ones).neg_(), inner.weights(of_classes.of_own).neg_())
    weights, mean = of_classes.weights(*solved)
    # K_mm^-1 - L^-T (I + B D_c^-1 B^T)^-1 L^-1, whose part that all classes share is I - Q before unwhitening.
    P = torch.eye(n_points, dtype=Q.dtype) - Q
    P = unwhitened(factor, unwhitened(factor, P).T)
    W = unwhitened(factor, inner.W)
    return SparsePosterior(SharedSolve(P, W, class_of_column, n_classes), unwhitened(factor, weights), mean)


def condition_by_kernel(
    kernel: LayerKernels | GpytorchKernel,
    points: list[Tensor],
    rows: list[Tensor],
    sizes: Sequence[int],
    targets: DirichletTargets,
    repeats: Tensor | None,
) -> SparsePosterior:
    """Do as `condition_on_points` for points and rows given layer by layer, rows sorted by class."""
    ends = np.cumsum(sizes).tolist()

    def to_class(c: int) -> Tensor:
        members = [layer[ends[c] - sizes[c] : ends[c]] for layer in rows]
        return kernel.between(points, members)

    return condition_on_points(kernel.between(points, points), to_class, sizes, targets, repeats)


def factor_of_points(among_points: Tensor) -> Tensor:
    """Return the Cholesky factor of the kernel matrix (m, m) of the points. Raises ValueError as `cholesky` does."""
    return cholesky(among_points, _JITTER * float(among_points.diagonal().mean()))


def columns_of_class(Q: Tensor, of_class: Tensor, targets: DirichletTargets) -> Tensor:
    """Compute W_c with S^-1 - (S + e B_c B_c^T)^-1 = W_c W_c^T, for Q = S^-1: no more columns than points or rows."""
    if of_class.shape[1] > len(Q):  # the same product by fewer columns
        of_class = torch.linalg.qr(of_class.T, mode="r").R.T
    spread = Q @ of_class
    inner = of_class.T @ spread
    inner.diagonal().add_(1 / (1 / targets.own_noise - 1 / targets.other_noise))
    return torch.linalg.solve_triangular(torch.linalg.cholesky(inner), spread.T, upper=False).T


@dataclass(frozen=True, eq=False)
class ClassSums:
    """What the weights of the points and the prior mean follow from, beside the matrix A_c = B^T B + D_c of each class.

    Attributes
    ----------
    of_ones, of_own : float64 tensors of shape (n_points, n_classes)
        B D_c^-1 times 1 for every example, and times 1 for those of the class alone.
    sizes : float64 tensor of shape (n_classes,)
        How often the examples of each class count.
    targets : DirichletTargets
    """

    of_ones: Tensor
    of_own: Tensor
    sizes: Tensor
    targets: DirichletTargets

    @classmethod
    def of(cls, sums: Tensor, sizes: Tensor, targets: DirichletTargets) -> "ClassSums":
        """Take the sums of the B_c by row, (n_points, n_classes)."""
        own, other = targets.own_noise, targets.other_noise
        return cls(sums.sum(1, keepdim=True) / other + sums * (1 / own - 1 / other), sums / own, sizes, targets)

    def weights(self, by_ones: Tensor, by_own: Tensor) -> tuple[Tensor, float]:
        """Compute the whitened points' weights, (n_points, n_classes), and the mean of largest likelihood.

        `by_ones` and `by_own` are `of_ones` and `of_own` behind the inverse of I + B D_c^-1 B^T of each class.
        """
        targets, sizes = self.targets, self.sizes
        step, own, other = targets.own - targets.other, targets.own_noise, targets.other_noise
        ones = len(sizes) * sizes.sum() / other + (sizes * (1 / own - 1 / other)).sum() - (self.of_ones * by_ones).sum()
        steps = step * ((sizes / own).sum() - (self.of_ones * by_own).sum())
        level = -float(steps / ones)
        return level * by_ones + step * by_own, targets.other - level


def unwhitened(factor: Tensor, vectors: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor.T, vectors, upper=True)
