"""What is reversed is the gradient alone, times the strength."""

import copy

import pytest
import torch
from torch import Tensor, nn

from repurpose.domain.networks.gradient_reversal import GradientReversal, set_reversals


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, torch.tensor(2.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_is_minus_the_strength_times_the_plain_one(strength: Tensor | float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).to(dtype)
    plain, before = (torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).to(dtype) for _ in range(2))
    plain.requires_grad_(), before.requires_grad_()
    behind = nn.Sequential(GradientReversal(), classifier)
    assert set_reversals(behind, strength)
    loss, other = classifier(plain).square().sum(), behind(before).square().sum()
    assert torch.equal(loss, other)
    own = torch.autograd.grad(loss, [plain, *classifier.parameters()])
    found = torch.autograd.grad(other, [before, *classifier.parameters()])
    assert found[0].dtype == dtype
    torch.testing.assert_close(found[0], -float(strength) * own[0])
    for ahead, after in zip(own[1:], found[1:]):  # what comes after it learns as it would
        assert torch.equal(ahead, after)


def test_it_says_whether_there_is_one() -> None:
    assert not set_reversals(nn.Linear(2, 2), 1.0)
    assert set_reversals(nn.ModuleList([nn.Sequential(GradientReversal())]), 1.0)


def test_a_copy_has_a_strength_of_its_own() -> None:
    first = GradientReversal()
    second = copy.deepcopy(first)
    set_reversals(second, torch.tensor(0.5))
    assert (float(first.strength), float(second.strength)) == (0.0, 0.5)
