import torch
from torch import nn

from repurpose.domain import GradientReversal
from repurpose.domain.networks.gradient_reversal import set_reversals


def test_the_gradient_comes_back_times_minus_the_strength() -> None:
    plain, layer = torch.randn(4, 3, requires_grad=True), GradientReversal()
    assert set_reversals(nn.Sequential(nn.Linear(3, 3), nn.Sequential(layer)), 0.3)
    reversed_ = plain.detach().clone().requires_grad_()
    assert torch.equal(layer(reversed_), plain)
    plain.pow(3).sum().backward()
    layer(reversed_).pow(3).sum().backward()
    assert torch.allclose(reversed_.grad, -0.3 * plain.grad)


def test_it_does_nothing_before_a_strength_is_set_and_a_network_without_one_says_so() -> None:
    rows = torch.randn(4, 3, requires_grad=True)
    GradientReversal()(rows).sum().backward()
    assert not rows.grad.any()
    assert not set_reversals(nn.Linear(3, 3), 1.0)
