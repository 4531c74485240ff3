"""The evidence (marginal likelihood) of the targets of all classes under one kernel, with its gradient.

An example that counts w times is w equal ones: together they are one with a w-th part of the noise, beside a factor of
the density that depends on neither kernel nor mean,

    prod_w N(y | f, v) = N(y | f, v / w) (2 pi v)^(-(w - 1) / 2) w^(-1/2)

which also says what an example means that counts half.

The prior mean is one constant for all classes, set to where the evidence is largest, so that an input far from every
example has no class that is more likely than another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from repurpose.meta_model.gp.exact_solve import ExactSolve, solve
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["Posterior", "condition", "log_evidence_of", "weights_and_mean"]

_MAX_ELEMENTS = 2**22  # of blocks of inverses at once: 32 MB


@dataclass(frozen=True, eq=False)
class Posterior:
    """The Gaussian processes of all classes, given their targets. Rows are sorted by class.

    Attributes
    ----------
    solve : ExactSolve, or SharedSolve to leave out
    targets : DirichletTargets
    weights : float64 tensor of shape (n_samples, n_classes)
        A_c^-1 (targets of class c - mean).
    mean : float
        The prior mean.
    log_evidence : float
        Summed over the classes, in nats.
    repeats : float64 tensor of shape (n_samples,) or None
        How often each example counts; None where all count once.
    """

    solve: ExactSolve | SharedSolve
    targets: DirichletTargets
    weights: Tensor
    mean: float
    log_evidence: float
    repeats: Tensor | None = None

    def kernel_gradient(self) -> Tensor:
        """Compute the derivative of `log_evidence` by each kernel entry: (n_samples, n_samples), symmetric."""
        return torch.addmm(self.solve.sum(), self.weights, self.weights.T, beta=-0.5, alpha=0.5)

    def leave_out(self, groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the latent values at each example as if its group had not been seen.

        `groups` are the rows of each group, int64 tensors that together hold every row to be left out once; the result
        is two tensors (n_samples, n_classes), NaN for rows in no group.
        """
        means, variances = torch.full_like(self.weights, torch.nan), torch.full_like(self.weights, torch.nan)
        for rows, *of_rows in self.each_left_out(groups):
            means[rows], variances[rows] = of_rows
        return means, variances

    def each_left_out(self, groups: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows (n,) with mean and variance of the latent values there, (n, n_classes), as if unseen.

        `groups` are the rows of each group, which are left out together; a row may be in several. An example that
        counts several times is left out wholly. The prior mean and the kernel stay as they are. Rasmussen and Williams
        (2006), equations 5.10 to 5.12, with blocks of the inverse in place of its diagonal.
        """
        own = self.solve.own_columns
        targets = self.targets.other + own * (self.targets.own - self.targets.other)
        noise = self.targets.other_noise + own * (self.targets.own_noise - self.targets.other_noise)
        if self.repeats is not None:
            noise /= self.repeats[:, None]
        solve = self.solve.with_columns()
        for rows in _of_one_size(groups, solve.n_classes):
            # [A^-1]_gg^-1 is the covariance of the group given all other rows (Rasmussen and Williams, 5.12).
            covariances = torch.linalg.inv(solve.blocks(rows))  # of the targets: latent values and noise
            means = targets[rows] - torch.einsum("gcij,gjc->gic", covariances, self.weights[rows])
            variances = covariances.diagonal(dim1=2, dim2=3).mT - noise[rows]
            # Rounding may leave a variance just below zero where the noise is nearly all of it.
            yield rows.flatten(), means.flatten(0, 1), variances.clamp_min(0).flatten(0, 1)


def condition(
    kernel: Tensor, class_sizes: Sequence[int], targets: DirichletTargets, repeats: Tensor | None = None
) -> Posterior:
    """Condition on the targets, for a kernel matrix (n, n) of rows sorted by class, each counted `repeats` times."""
    inverses = solve(kernel, class_sizes, own=targets.own_noise, other=targets.other_noise, repeats=repeats)
    weights, mean = weights_and_mean(inverses, targets)
    log_evidence = log_evidence_of(inverses, weights, mean, targets, repeats)
    return Posterior(inverses, targets, weights, mean, log_evidence, repeats)


def weights_and_mean(inverses: ExactSolve, targets: DirichletTargets) -> tuple[Tensor, float]:
    """Return A_c^-1 (targets of class c - mean), (n_samples, n_classes), and the mean of the largest evidence."""
    # The targets of class c are mean + level + step on its examples: two right-hand sides serve any mean.
    ones, own = inverses.of_ones_and_own()
    steps = own.mul_(targets.own - targets.other)
    # Where the derivative of the evidence by the mean is zero: 1^T A^-1 (level + own step) = 0 over all classes.
    level = -float(steps.sum() / ones.sum())
    return level * ones + steps, targets.other - level


def log_evidence_of(
    inverses: ExactSolve, weights: Tensor, mean: float, targets: DirichletTargets, repeats: Tensor | None = None
) -> float:
    """Return the log density of the targets of all classes, in nats."""
    own = inverses.own_columns
    residuals = targets.other - mean + own * (targets.own - targets.other)
    fit = float((residuals * weights).sum())
    log_evidence = -0.5 * (fit + float(inverses.log_determinants.sum()) + own.numel() * log(2 * pi))
    if repeats is not None:
        log_evidence += _of_equal_examples(targets, inverses.n_classes, repeats)
    return log_evidence


def _of_one_size(groups: Sequence[Tensor], n_classes: int) -> Iterator[Tensor]:
    """Yield the groups of each size together, (n_such_groups, size), as many as their blocks have room for."""
    by_size: dict[int, list[Tensor]] = {}
    for rows in groups:
        by_size.setdefault(len(rows), []).append(rows)
    for size, of_size in by_size.items():
        yield from torch.stack(of_size).split(max(1, _MAX_ELEMENTS // (n_classes * size**2)))


def _of_equal_examples(targets: DirichletTargets, n_classes: int, repeats: Tensor) -> float:
    """Return the log density of examples that count `repeats` times, less that of their means, over all classes."""
    log_scales = n_classes * log(2 * pi) + log(targets.own_noise) + (n_classes - 1) * log(targets.other_noise)
    return -0.5 * float((repeats - 1).sum() * log_scales + n_classes * repeats.log().sum())
