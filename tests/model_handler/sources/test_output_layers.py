"""The layer that gives what a network returns is found by one run."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from model_handler.sources.output_layers import find_output_layer


class Returning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.aside = nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> SimpleNamespace:
        hidden = self.norm(self.norm(self.first(x)))
        self.aside(hidden)
        return SimpleNamespace(hidden=hidden, computed=hidden + 1, none=None)


def test_it_is_the_call_whose_output_is_returned() -> None:
    inputs = {"x": torch.rand(2, 3)}
    network = Returning()
    assert find_output_layer(network, inputs, ["none", "hidden"]) == "norm@1"
    assert find_output_layer(network, inputs, ["computed"]) is None
    assert find_output_layer(network, inputs, ["computed", "hidden"]) == "norm@1"
    assert not any(module._forward_hooks for module in network.modules())
