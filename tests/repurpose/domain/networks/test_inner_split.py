from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.frozen_prefix.splitting import split
from model_handler.network.eval_lock import hold
from repurpose.domain.networks.inner_split import SplitInside


class TwoAnswers(SplitInside):
    """Gives what its network gives, and an answer of a second head."""

    def forward(self, *inputs: Any, **options: Any) -> dict[str, Tensor]:
        rows = self.network(*inputs, **options)
        return {"logits": rows, "second": self.second(rows)}


class Remembering(nn.Module):
    """Remembers what passed through it."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


class Looking(SplitInside):
    """Gives, beside what its network gives, what passed through one of its modules."""

    def __init__(self, network: nn.Module, path: str) -> None:
        super().__init__(network, {})
        self.path = path

    def forward(self, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor]:
        given = self.network(*inputs, **options)
        return given, self.network.get_submodule(self.path).seen


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), Remembering(), pooled
    return nn.Sequential(*layers, nn.Linear(5, 3))


def test_the_rest_is_split_off_inside_and_has_the_same_around_it() -> None:
    module = TwoAnswers(frozen(convolutional(), "0", "1"), {"second": nn.Linear(3, 2)})
    found = split(module, torch.rand(2, 1, 8, 8)).frontier
    assert found is not None
    assert found.last_layer == "2"  # conv, norm, relu
    X = torch.rand(5, 1, 8, 8)
    answers, whole = found.rest(*found.values(X)), module(X)
    assert isinstance(found.rest, TwoAnswers)
    assert torch.allclose(answers["logits"], whole["logits"], atol=1e-5)
    assert torch.equal(answers["second"], module.second(answers["logits"]))
    own = dict(module.named_parameters())
    of_rest = dict(found.rest.named_parameters())
    assert set(of_rest) == {"3.weight", "3.bias", "6.weight", "6.bias", "second.weight", "second.bias"}
    assert all(of_rest[name] is own[name] for name in of_rest)


def test_a_network_frozen_whole_leaves_the_parts_alone() -> None:
    module = TwoAnswers(frozen(convolutional(), "0", "1", "3", "6"), {"second": nn.Linear(3, 2)})
    found = split(module, torch.rand(2, 1, 8, 8)).frontier
    assert found is not None
    assert found.shapes == ((3,),)
    assert [name for name, _ in found.rest.named_parameters()] == ["second.weight", "second.bias"]
    X = torch.rand(5, 1, 8, 8)
    assert torch.allclose(found.rest(*found.values(X))["second"], module(X)["second"], atol=1e-5)


def test_modules_inside_are_those_of_the_rest() -> None:
    module = Looking(frozen(convolutional(), "0", "1"), "4")
    found = split(module, torch.rand(2, 1, 8, 8)).frontier
    assert found is not None
    X, Y = torch.rand(5, 1, 8, 8), torch.rand(3, 1, 8, 8)
    passed = module(X)[1]
    _, through_rest = found.rest(*found.values(Y))
    assert module.network.get_submodule("4").seen is passed  # the rest has one of its own
    assert torch.allclose(through_rest, module(Y)[1], atol=1e-5)


def test_one_that_cannot_be_split_says_why() -> None:
    found = split(TwoAnswers(convolutional(), {"second": nn.Linear(3, 2)}), torch.rand(2, 1, 8, 8))
    assert found.frontier is None
    assert "no layer with weights is frozen" in found.reason


def test_the_rest_and_a_copy_follow_the_mode() -> None:
    module = TwoAnswers(frozen(convolutional(), "0", "1"), {"second": nn.Linear(3, 2)})
    found = split(module, torch.rand(2, 1, 8, 8)).frontier
    assert found is not None
    for network in (found.rest, deepcopy(module)):
        assert not network.eval().network.training
        assert network.train().network.training
        assert network.second.training


def frozen(network: nn.Module, *names: str) -> nn.Module:
    for name in names:
        hold(network.get_submodule(name).requires_grad_(False))
    return network
