"""`expected_drop` says by how much some labels together should lower the log loss of a Gaussian process elsewhere.

The log loss that a head expects of itself is the entropy of its probabilities. Labels of the chosen rows are drawn from
these probabilities one after the other, each given those before it; the posterior is conditioned on all of them, and
the entropy at other rows compared before and after. So the drop is in what `predict_probability` returns, at the kernel
and the temperature that there are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.meta_model.gp.model import GpModel, tempered_logits
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["Drop", "expected_drop"]

N_DRAWS = 16


@dataclass(frozen=True)
class Drop:
    """A mean over draws of labels and over rows, in nats, and its standard error."""

    mean: float
    error: float


def expected_drop(
    model: GpModel, latent: JointLatent, targets: DirichletTargets, n_chosen: int, random_state: np.random.RandomState
) -> Drop:
    """Return by how much the labels of the first `n_chosen` rows should lower the entropy at the rows behind them."""
    before = _entropy(model, latent.means[n_chosen:], latent.variances[n_chosen:])
    learner = _Learner(model, latent, targets, n_chosen)
    drops = torch.stack([before - learner.entropy_after(random_state) for _ in range(N_DRAWS)])
    by_draw = drops.mean(dim=1).var() / N_DRAWS
    by_row = drops.mean(dim=0).var() / len(before) if len(before) > 1 else torch.zeros(())
    return Drop(float(drops.mean()), float((by_draw + by_row).sqrt()))


class _Learner:
    """What labels of the chosen rows, drawn one by one, teach about the other rows."""

    def __init__(self, model: GpModel, latent: JointLatent, targets: DirichletTargets, n_chosen: int) -> None:
        self._model, self._targets = model, targets
        covariances = torch.stack([latent.covariances_with(row) for row in range(n_chosen)]).permute(2, 0, 1)
        self._own, self._cross = covariances[:, :, :n_chosen], covariances[:, :, n_chosen:].contiguous()
        self._means, self._variances = latent.means, latent.variances

    def entropy_after(self, random_state: np.random.RandomState) -> Tensor:
        """Draw a label of each chosen row, and return the entropy at the others given all of them: (n_others,)."""
        n_classes, n_chosen, _ = self._cross.shape
        # Cholesky factors of the covariance of the chosen rows with the noise of their labels, and residuals in them.
        factors = torch.zeros(n_classes, n_chosen, n_chosen, dtype=torch.float64)
        residuals = torch.zeros(n_classes, n_chosen, dtype=torch.float64)
        for row in range(n_chosen):
            before = factors[:, :row, :row]
            row_of_factor = torch.linalg.solve_triangular(before, self._own[:, :row, row, None], upper=False)[..., 0]
            mean = self._means[row] + (row_of_factor * residuals[:, :row]).sum(dim=1)
            variance = (self._own[:, row, row] - row_of_factor.square().sum(dim=1)).clamp_min(0)
            label = self._draw(mean, variance, random_state)
            factors[:, row, :row] = row_of_factor
            is_own = torch.arange(n_classes) == label
            noise = torch.where(is_own, self._targets.own_noise, self._targets.other_noise)
            factors[:, row, row] = (variance + noise).sqrt()
            value = torch.where(is_own, self._targets.own, self._targets.other)
            residuals[:, row] = (value - mean) / factors[:, row, row]
        gains = torch.linalg.solve_triangular(factors, self._cross, upper=False)
        means = self._means[n_chosen:] + (gains * residuals[:, :, None]).sum(dim=1).T
        variances = self._variances[n_chosen:] - gains.square().sum(dim=1).T
        return _entropy(self._model, means, variances)

    def _draw(self, mean: Tensor, variance: Tensor, random_state: np.random.RandomState) -> int:
        probabilities = _probabilities(self._model, mean[None], variance[None])[0].numpy()
        return int(random_state.choice(len(mean), p=probabilities / probabilities.sum()))


def _entropy(model: GpModel, means: Tensor, variances: Tensor) -> Tensor:
    return torch.special.entr(_probabilities(model, means, variances)).sum(dim=1)


def _probabilities(model: GpModel, means: Tensor, variances: Tensor) -> Tensor:
    """Return the probabilities of the head: float64 (n_rows, n_classes)."""
    logits = tempered_logits(means, variances.clamp_min(0), model.variance_factor, model.temperature)
    return torch.softmax(logits, dim=1)
