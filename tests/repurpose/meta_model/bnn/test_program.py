"""The bound against pyro's own, on the same network written with weights as sites."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Categorical, Normal
from pyro.infer import TraceMeanField_ELBO
from torch.distributions import kl_divergence

from repurpose.meta_model.bnn.model import with_one
from repurpose.meta_model.bnn.program import BayesianNetwork, LinearMap
from repurpose.meta_model.bnn.training import bound

SHAPES = [(3, 2), (4, 5), (5, 2)]
PRIORS = [0.7, 0.5, 0.3]


def network(seed: int = 0) -> BayesianNetwork:
    rng = torch.Generator().manual_seed(seed)
    means = [torch.randn(shape, generator=rng) for shape in SHAPES]
    logs = [0.3 * torch.randn(shape, generator=rng) - 1.5 for shape in SHAPES]
    return BayesianNetwork(means, logs, torch.tensor([0.3, -0.2]), PRIORS, rng)


def examples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, generator=rng), torch.tensor([0, 1, 1, 0, 1, 0]), torch.linspace(0.5, 2, 6)


def plain_program(found: BayesianNetwork, kl_weight: float, learned: bool) -> None:
    rows, codes, scales = examples()
    with poutine.scale(scale=kl_weight):
        weights = [
            pyro.sample(f"w{i}", Normal(mean if learned else torch.zeros_like(mean), width).to_event(2))
            for i, (mean, width) in enumerate(
                zip(found.means, found.deviations if learned else map(torch.tensor, PRIORS))
            )
        ]
    if not learned:
        hidden = torch.relu(with_one(rows) @ weights[1])
        logits = rows @ weights[0] + found.intercepts + hidden @ weights[2]
        with pyro.plate("rows", len(rows)), poutine.scale(scale=scales):
            pyro.sample("labels", Categorical(logits=logits), obs=codes)


def test_outputs_of_a_map_have_the_moments_of_random_weights() -> None:
    rng = torch.Generator().manual_seed(0)
    rows, means, deviations = torch.randn(4, 3), torch.randn(3, 2), torch.rand(3, 2)
    outputs = LinearMap(rows, means, deviations, rng).rsample((20_000,))
    by_weights = rows @ Normal(means, deviations).sample((20_000,))
    assert torch.allclose(outputs.mean(dim=0), by_weights.mean(dim=0), rtol=0, atol=0.06)
    assert torch.allclose(outputs.std(dim=0), by_weights.std(dim=0), rtol=0.05)
    noise = outputs - outputs.mean(dim=0)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean(dim=0).max())) < 0.1  # each row by weights of its own


def test_the_divergence_of_maps_is_that_of_their_weights() -> None:
    rng = torch.Generator()
    rows, (mean, deviation) = torch.randn(4, 3), (torch.randn(3, 2), torch.rand(3, 2))
    maps = LinearMap(rows, mean, deviation, rng), LinearMap(rows, 0 * mean, 0 * mean + 0.7, rng)
    by_hand = ((0.7 / deviation).log() + (deviation**2 + mean**2) / (2 * 0.7**2) - 0.5).sum()
    assert float(kl_divergence(*maps)) == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.parametrize("kl_weight", [0.3, 1.0])
def test_the_bound_and_its_gradient_are_those_of_pyro_with_weights_as_sites(kl_weight: float) -> None:
    found, n = network(), 400
    for tensor in found.learned:
        tensor.requires_grad_(True)
    loss = bound(found, (*examples(), kl_weight), n)[0]
    gradients = torch.autograd.grad(loss, found.learned)
    torch.manual_seed(0)
    plain = TraceMeanField_ELBO(num_particles=n, max_plate_nesting=1).differentiable_loss(
        lambda: plain_program(found, kl_weight, learned=False), lambda: plain_program(found, kl_weight, learned=True)
    )
    by_pyro = torch.autograd.grad(plain, found.learned)
    assert loss.item() == pytest.approx(plain.item(), rel=0.05)
    for ours, theirs in zip(gradients, by_pyro):
        assert torch.allclose(ours, theirs, rtol=0, atol=0.15 * theirs.abs().max().item() + 0.05)


def test_without_a_weight_the_divergence_counts_for_nothing() -> None:
    found, wide = network(), network()
    wide.prior_deviations[:] = [50.0] * 3
    losses = [float(bound(network, (*examples(), 0.0), 1)[0]) for network in (found, wide)]
    assert losses[0] == losses[1]
