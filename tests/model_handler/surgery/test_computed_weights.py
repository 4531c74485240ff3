"""Layers that compute their weight of others are reinitialised as a plain layer is."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from model_handler import ModelError, ModelHandler

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")


class Absolute(nn.Module):
    """A parametrization without an inverse."""

    def forward(self, weight):
        return weight.abs()


class Widened(nn.Module):
    """One whose original has another shape than the weight."""

    def forward(self, weight):
        return weight.repeat(1, 2)


def network_with(change):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    change(network[0])
    network(torch.ones(1, 6))  # in training: old forms now hold a weight with a history
    return network


KINDS = {
    "weight_norm": (lambda layer: weight_norm(layer), lambda weight, layer: weight),
    "weight_norm of all": (lambda layer: weight_norm(layer, dim=None), lambda weight, layer: weight),
    "parametrized weight_norm": (parametrizations.weight_norm, lambda weight, layer: weight),
    "spectral_norm": (lambda layer: spectral_norm(layer), lambda weight, _: weight / torch.linalg.norm(weight, 2)),
    "parametrized spectral_norm": (
        parametrizations.spectral_norm,
        lambda weight, _: weight / torch.linalg.norm(weight, 2),
    ),
    "prune": (
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
        lambda weight, layer: weight * layer.weight_mask,
    ),
    "without an inverse": (
        lambda layer: parametrize.register_parametrization(layer, "weight", Absolute()),
        lambda weight, _: weight.abs(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_is_that_of_a_plain_layer_drawn_from_the_same_seed(kind):
    change, wanted_of = KINDS[kind]
    network = network_with(change)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    module = ModelHandler(network).randomize("0", random_state=3).get_module().eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    torch.manual_seed(3)
    plain = nn.Linear(6, 8)
    module(torch.ones(1, 6))
    torch.testing.assert_close(module[0].weight, wanted_of(plain.weight, network[0]), atol=2e-4, rtol=0)
    assert torch.equal(module[0].bias, plain.bias)


def test_what_a_pruned_layer_holds_is_not_written_into():
    network = network_with(KINDS["prune"][0])
    held = network[0].weight
    before = held.detach().clone()
    ModelHandler(network).randomize("0")
    assert network[0].weight is held
    assert torch.equal(held, before)


def test_an_orthogonal_weight_is_orthogonal_again():
    network = network_with(parametrizations.orthogonal)
    module = ModelHandler(network).randomize("0", random_state=3).get_module()
    weight = module[0].weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(6), atol=1e-5, rtol=0)
    assert (weight - network[0].weight).abs().max() > 0.1


def test_an_initializer_is_given_a_plain_layer():
    module = (
        ModelHandler(network_with(weight_norm))
        .randomize("0", initializer=lambda layer: nn.init.constant_(layer.weight, 0.5))
        .get_module()
    )
    module(torch.ones(1, 6))
    torch.testing.assert_close(module[0].weight, torch.full((8, 6), 0.5))


def test_a_parametrization_that_cannot_tell_is_named():
    network = nn.Sequential(nn.Linear(4, 3))
    layer = network[0]
    layer.weight = nn.Parameter(layer.weight[:, :2].detach())
    parametrize.register_parametrization(layer, "weight", Widened(), unsafe=True)
    with pytest.raises(ModelError, match=r"\['Widened'\], of which 'weight' is computed, has no right_inverse"):
        ModelHandler(network).randomize("0")


def test_parameters_inside_a_parametrization_mean_its_layer():
    handler = ModelHandler(network_with(parametrizations.weight_norm))
    fixed = handler.get_module(fixed_layer_parameters=["0.parametrizations.weight.original0"])
    assert not any(parameter.requires_grad for parameter in fixed[0].parameters())
    drawn = handler.get_module(random_layer_parameters=["0.parametrizations.weight.original1"])
    assert not torch.equal(drawn[0].bias, fixed[0].bias)
