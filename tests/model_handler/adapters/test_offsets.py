"""Offsets: biases and normalisations learn beside what they were."""

import pytest
import torch
from torch import nn

from tests.model_handler.adapters.networks import LAYERS, randomise
from tests.model_handler.networks import handle


@pytest.mark.parametrize("name", [name for name, (layer, _) in LAYERS.items() if layer.bias is not None])
def test_an_offset_is_added_to_the_bias(name: str) -> None:
    layer, shape = LAYERS[name]
    network, x = nn.Sequential(layer), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module = randomise(handle(network, x).add_adapters("0", "bias").get_module(), 0.5)
    axes = [1] * len(getattr(layer, "kernel_size", ()))
    wanted = network(x) + module[0].bias_offset.view(-1, *axes)
    torch.testing.assert_close(module(x), wanted)
    merged = handle(module, x).merge_adapters().get_module()
    torch.testing.assert_close(merged(x), wanted)
    assert torch.equal(merged[0].bias, layer.bias + module[0].bias_offset)


def test_a_normalisation_learns_in_its_own_place_as_it_would_itself() -> None:
    """A step of gradient descent on offsets is the step on the weights themselves."""
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    layer = nn.LayerNorm(5)
    module = handle(nn.Sequential(layer)).add_adapters("0", "norm").get_module()
    for network in (nn.Sequential(layer), module):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            network(x).pow(3).sum().backward()
            optimiser.step()
    merged = handle(module).merge_adapters().get_module()[0]
    torch.testing.assert_close(merged.weight, layer.weight)
    torch.testing.assert_close(merged.bias, layer.bias)
