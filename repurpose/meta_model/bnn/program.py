"""The network is a program of pyro: the prior of its weights, and the guide, which approximates their posterior.

    logits = rows @ W_skip + intercept + f(... f([rows, 1] @ W_0) ...) @ W_last

Every weight is normal a priori, about zero with a deviation divided by the root of its number of inputs, and normal and
independent in the guide (mean field). The intercepts are plain parameters.

Both draw the outputs of a linear map, not its weights: each row for itself, which gives gradients of less variance
(the local reparameterisation of Kingma, Salimans and Welling 2015, arXiv:1506.02557). Chance comes from a generator of
one's own, and learned numbers are plain tensors: neither torch's global generator nor pyro's parameter store is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical, Normal, TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from repurpose.meta_model.bnn.model import with_one

__all__ = ["BayesianNetwork", "LinearMap"]

_TINY = 1e-20  # the root of a variance of zero has no gradient


class LinearMap(TorchDistribution):
    """The outputs (n_rows, n_outputs) of `rows` (n_rows, n_inputs) by random weights.

    The weights are independent and normal, of `means` and `deviations` (n_inputs, n_outputs). The divergence between
    two maps is that of their weights. There is no density of the outputs: where `TraceMeanField_ELBO` asks for one, it
    takes the divergence in its place.
    """

    has_rsample = True
    arg_constraints: dict = {}  # noqa: RUF012 (torch reads it from the class)

    def __init__(self, rows: Tensor, means: Tensor, deviations: Tensor, generator: torch.Generator) -> None:
        self.rows = rows
        self.means = means
        self.deviations = deviations
        self.generator = generator
        super().__init__(torch.Size(), torch.Size((len(rows), means.shape[1])), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return one draw of each row's outputs, by weights of its own."""
        outputs = self.rows @ self.means
        variances = self.rows.square() @ self.deviations.square()
        noise = torch.randn((*sample_shape, *outputs.shape), generator=self.generator, dtype=outputs.dtype)
        return outputs + (variances + _TINY).sqrt() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return zero, whatever the value: the divergence of the weights is counted in its place."""
        return value.new_zeros(())


@register_kl(LinearMap, LinearMap)
def _divergence_of_weights(posterior: LinearMap, prior: LinearMap) -> Tensor:
    learned = Normal(posterior.means, posterior.deviations, validate_args=False)
    return kl_divergence(learned, Normal(prior.means, prior.deviations, validate_args=False)).sum()


@dataclass(frozen=True, eq=False)
class BayesianNetwork:
    """The program and the guide, over the weights of all maps: the skip first, the last layer last.

    Attributes
    ----------
    means, log_deviations : list of Tensor (n_inputs, n_outputs)
        The means and the logarithms of the deviations of the weights in the guide; they learn.
    intercepts : Tensor (n_classes,)
        They learn too.
    prior_deviations : list of float
    generator : torch.Generator
        All random numbers come from it.
    """

    means: list[Tensor]
    log_deviations: list[Tensor]
    intercepts: Tensor
    prior_deviations: list[float]
    generator: torch.Generator

    @property
    def deviations(self) -> list[Tensor]:
        """The standard deviations of the weights in the guide, for each map."""
        return [tensor.exp() for tensor in self.log_deviations]

    @property
    def learned(self) -> list[Tensor]:
        """Every tensor that learns."""
        return [*self.means, *self.log_deviations, self.intercepts]

    def program(self, rows: Tensor, codes: Tensor, row_scales: Tensor, kl_weight: float) -> Tensor:
        """Sample from the prior and observe labels `codes` (n_rows,), counted `row_scales` (n_rows,) times."""

        def by_prior(i: int, inputs: Tensor) -> LinearMap:
            mean = self.means[i]
            deviation = torch.full_like(mean, self.prior_deviations[i])
            return LinearMap(inputs, torch.zeros_like(mean), deviation, self.generator)

        logits = self._logits(rows, by_prior, kl_weight)
        with pyro.plate("rows", len(rows)), poutine.scale(scale=row_scales):
            pyro.sample("labels", Categorical(logits=logits, validate_args=False), obs=codes)
        return logits

    def guide(self, rows: Tensor, codes: Tensor, row_scales: Tensor, kl_weight: float) -> Tensor:
        """Sample from the approximate posterior of the weights; the labels are for the program."""

        def as_learned(i: int, inputs: Tensor) -> LinearMap:
            return LinearMap(inputs, self.means[i], self.log_deviations[i].exp(), self.generator)

        return self._logits(rows, as_learned, kl_weight)

    def _logits(self, rows: Tensor, map_of: Callable[[int, Tensor], LinearMap], kl_weight: float) -> Tensor:
        def draw(i: int, inputs: Tensor) -> Tensor:
            return pyro.sample(f"map_{i}", map_of(i, inputs))

        with poutine.scale(scale=kl_weight) if kl_weight > 0 else poutine.mask(mask=False):
            logits = draw(0, rows) + self.intercepts
            hidden = rows
            for i in range(1, len(self.means) - 1):
                hidden = torch.relu(draw(i, with_one(hidden)))
            return logits + draw(len(self.means) - 1, hidden)
