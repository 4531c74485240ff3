"""Networks of every library have an identity, which is another one where weights, settings or code are."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from model_handler import ModelHandler
from model_handler.feature_cache.identity import UnknownIdentity
from model_handler.feature_cache.network_identity import NetworkIdentity
from tests.model_handler.networks import Residual

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "of torch": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU()),
    "of torchvision": lambda: models.squeezenet1_1(),
    "of timm": lambda: timm.create_model("test_vit"),
    "of one's own": Residual,
}


def digest(network: nn.Module) -> str:
    identity = NetworkIdentity()
    identity.take(network)
    return identity.digest


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MAKERS[name]()


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_network_is_the_same_and_one_weight_makes_another(name: str) -> None:
    network = made(name)
    assert digest(network) == digest(made(name)) == digest(copy.deepcopy(network).train())
    handler = ModelHandler(network)._engine.network
    assert digest(handler) == digest(ModelHandler(made(name))._engine.network)
    list(network.parameters())[-1].data.view(-1)[-1] += 1
    assert digest(network) != digest(made(name))


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "a setting": lambda network: setattr(network[0], "stride", (2, 2)),
    "a statistic": lambda network: network[1].running_var.mul_(2),
    "another module without weights": lambda network: network.__setitem__(2, nn.ReLU()),
    "a hook": lambda network: network[2].register_forward_hook(lambda module, arguments, output: output + 1),
    "a forward of its own": lambda network: setattr(network[2], "forward", torch.relu),
    "a parametrization": lambda network: torch.nn.utils.parametrizations.weight_norm(network[0]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_makes_another(change: str) -> None:
    network = made("of torch")
    CHANGES[change](network)
    assert digest(network) != digest(made("of torch"))


def test_torchscript_has_none() -> None:
    with pytest.raises(UnknownIdentity, match="TorchScript"):
        digest(nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2))))
