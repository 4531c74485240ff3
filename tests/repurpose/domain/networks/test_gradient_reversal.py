"""What is reversed is the gradient alone, times the strength."""

import pytest
import torch

from repurpose.domain.networks.gradient_reversal import reverse_gradient


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.5])
def test_the_gradient_is_minus_the_strength_times_the_plain_one(strength: float) -> None:
    torch.manual_seed(0)
    classifier, values = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()), torch.randn(5, 4)
    plain, reversed_values = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss = classifier(plain).square().sum()
    other = classifier(reverse_gradient(reversed_values, strength)).square().sum()
    assert torch.equal(loss, other)
    (of_plain,) = torch.autograd.grad(loss, plain)
    (of_reversed,) = torch.autograd.grad(other, reversed_values)
    torch.testing.assert_close(of_reversed, -strength * of_plain, rtol=0, atol=0)


def test_what_comes_after_learns_as_it_would() -> None:
    torch.manual_seed(0)
    layer, values = torch.nn.Linear(4, 3), torch.randn(5, 4, requires_grad=True)
    (plain,) = torch.autograd.grad(layer(values).square().sum(), layer.weight)
    (behind,) = torch.autograd.grad(layer(reverse_gradient(values, 0.7)).square().sum(), layer.weight)
    assert torch.equal(plain, behind)
