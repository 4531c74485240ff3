from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler import ModelError, Projection
from repurpose.neural_network.toast.feedback import StageSize
from repurpose.neural_network.toast.places import Places
from repurpose.neural_network.toast.steering import SteeredValues, resized, steered_stages, value_weights


class ReadsTheWeight(nn.Module):
    """Uses the weight of a layer without calling it, as BEiT does."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weight=self.qkv.weight)


def test_values_are_added_behind_the_projection_of_layers_called_or_read() -> None:
    torch.manual_seed(0)
    x, td, place = torch.rand(2, 3, 4), torch.rand(2, 3, 4), Projection("qkv", 8, 12)
    reads = ReadsTheWeight()
    calls: Any = nn.Sequential()
    calls.add_module("qkv", nn.Linear(4, 12))
    for network in (reads, calls):
        expected = network(x)
        assert torch.equal(value_weights(network, [place])[0], network.qkv.weight[8:])
        with SteeredValues(network, [place], [td @ network.qkv.weight[8:].T]):
            found = network(x)
        assert torch.equal(found[..., :8], expected[..., :8])
        assert torch.allclose(found[..., 8:], expected[..., 8:] + td @ network.qkv.weight[8:].T)
        assert torch.equal(network(x), expected)


def test_transposed_layers_are_steered_by_columns() -> None:
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    network, x, td = nn.Sequential(Conv1D(12, 4)), torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    added = td @ network[0].weight[:, 8:]
    assert torch.equal(value_weights(network, [Projection("0", 8, 12)])[0], network[0].weight[:, 8:].T)
    with SteeredValues(network, [Projection("0", 8, 12)], [added]):
        found = network(x)
    assert torch.allclose(found, network(x) + F.pad(added, (8, 0)), atol=1e-6)


def test_calls_of_one_layer_are_steered_in_turn() -> None:
    network, x = nn.Sequential(nn.Linear(4, 4)), torch.rand(1, 2, 4)
    first, second = torch.rand(2, 1, 2, 4)
    place = Projection("0", 0, 4)
    with SteeredValues(network, [place, place], [first, second]):
        outputs = [network(x), network(x), network(x)]
    for output, td in zip(outputs, (first, second, torch.zeros(1, 2, 4)), strict=True):
        assert torch.equal(output, network(x) + td)


def test_separate_weights_and_masks_of_multi_head_attention_are_kept() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, vdim=6, batch_first=True).eval()
    nn.init.normal_(attention.in_proj_bias)
    x, values, td = torch.rand(2, 3, 4), torch.rand(2, 3, 6), torch.rand(2, 3, 6)
    mask = torch.tensor([[False, False, True], [False, False, False]])
    network = nn.ModuleDict({"attention": attention})
    with SteeredValues(network, [Projection("attention", 0, 4, "v_proj_weight")], [td @ attention.v_proj_weight.T]):
        found, weights = attention(x, x, values, key_padding_mask=mask)
    expected, expected_weights = attention(x, x, values + td, key_padding_mask=mask)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(weights, expected_weights)


def test_tokens_may_stand_in_front_of_rows() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2).eval()
    x, td = torch.rand(3, 3, 4), torch.rand(3, 3, 4)  # as many rows as tokens: shapes do not tell
    network = nn.ModuleDict({"attention": attention})
    place = Projection("attention", 8, 12, "in_proj_weight")
    with SteeredValues(network, [place], [td @ attention.in_proj_weight[8:].T]):
        found = attention(x, x, x)[0]
    assert torch.allclose(found, attention(x, x, x + td)[0], atol=1e-6)


def test_values_that_were_not_computed_are_an_error_and_so_are_other_tokens() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with (
        pytest.raises(ModelError, match="the values of attention in '1' were not computed"),
        SteeredValues(network, [Projection("1", 0, 4)], [torch.rand(1, 2, 4)]),
    ):
        network[0](torch.rand(1, 2, 4))
    with (
        pytest.raises(ModelError, match=r"are of shape \(2, 1, 4\), and not \(1, 2, 4\)"),
        SteeredValues(network, [Projection("0", 0, 4)], [torch.rand(1, 2, 4)]),
    ):
        network[0](torch.rand(2, 1, 4))


class InTuples(nn.Module):
    """Two stages that hand on tuples, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _Halved(), _Halved()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(pixels.movedim(1, -1))[0])[0]


class _Halved(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return x[:, ::2, ::2], "beside"


def test_stages_are_steered_in_what_they_read() -> None:
    network, pixels = InTuples(), torch.rand(1, 3, 8, 8)
    places = Places(("first", "second"), (StageSize(3, 3, 2),) * 2, (), None, channels_last=True)
    top_down = [torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3, 3)]
    with steered_stages(network, places, top_down):
        found = network(pixels=pixels)
    second = (pixels + top_down[0])[:, :, ::2, ::2] + F.interpolate(top_down[1], size=(4, 4), mode="bilinear")
    assert torch.allclose(found, second[:, :, ::2, ::2].movedim(1, -1))
    assert torch.equal(network(pixels), pixels[:, :, ::4, ::4].movedim(1, -1))


def test_maps_of_the_right_size_are_not_interpolated() -> None:
    maps = torch.rand(1, 2, 3, 4)
    assert resized(maps, (3, 4)) is maps
    assert resized(maps, (6, 4)).shape == (1, 2, 6, 4)
