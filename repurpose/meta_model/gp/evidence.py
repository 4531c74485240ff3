"""The evidence: how likely the targets of all classes are under one kernel, and its gradient.

The prior mean is one constant for all classes, set to where the evidence is largest, so that an input far from every
example has no class that is more likely than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["Posterior", "condition"]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The Gaussian processes of all classes, given their targets. Rows are sorted by class.

    Attributes
    ----------
    solve : SharedSolve
    weights : float64 tensor of shape (n_samples, n_classes)
        A_c^-1 (targets of class c - mean).
    mean : float
        The prior mean.
    log_evidence : float
        Summed over the classes, in nats.
    """

    solve: SharedSolve
    targets: DirichletTargets
    weights: Tensor
    mean: float
    log_evidence: float

    def kernel_gradient(self) -> Tensor:
        """The derivative of `log_evidence` by each entry of the kernel matrix: (n_samples, n_samples), symmetric."""
        return torch.addmm(self.solve.sum_of_inverses(), self.weights, self.weights.T, beta=-0.5, alpha=0.5)

    def predict(self, cross: Tensor, prior_variances: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the latent values at new inputs: each (n_rows, n_classes).

        `cross` (n_rows, n_samples) is the kernel between them and the examples, `prior_variances` (n_rows,) with
        themselves.
        """
        variances = prior_variances[:, None] - self.solve.quadratic_forms(cross)
        return self.mean + cross @ self.weights, variances.clamp_min(0)

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the latent values at each example as if it had not been seen: (n_samples, n_classes).

        Rasmussen and Williams (2006), equations 5.10 to 5.12; the prior mean and the kernel stay as they are.
        """
        inverse_variances = self.solve.diagonals()
        own = self.solve._own_columns > 0
        targets, noise = self.targets.other + own * self._step, self.targets.other_noise + own * self._noise_step
        return targets - self.weights / inverse_variances, (1 / inverse_variances - noise).clamp_min(0)

    @property
    def _step(self) -> float:
        return self.targets.own - self.targets.other

    @property
    def _noise_step(self) -> float:
        return self.targets.own_noise - self.targets.other_noise


def condition(kernel: Tensor, class_sizes: Sequence[int], targets: DirichletTargets) -> Posterior:
    """The posterior for a kernel matrix (n_samples, n_samples) whose rows are sorted by class."""
    solve = SharedSolve.of(kernel, class_sizes, targets.own_noise, targets.other_noise)
    own = solve._own_columns
    ones, steps = solve.weights(torch.ones_like(own)), solve.weights(own) * (targets.own - targets.other)
    level = -float(steps.sum() / ones.sum())  # targets of the others, less the mean
    weights = level * ones + steps
    residuals = level + own * (targets.own - targets.other)
    fit = float((residuals * weights).sum())
    log_evidence = -0.5 * (fit + solve.log_determinant + own.numel() * log(2 * pi))
    return Posterior(solve, targets, weights, targets.other - level, log_evidence)
