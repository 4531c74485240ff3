"""Layouts are found by what a network does, and averages go over positions whatever they are."""

import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from model_handler.extraction.channel_layout import layout_of_modules, layout_of_node
from model_handler.graph.tracing import trace
from tests.model_handler.networks import hooked, images


def layout_of_last(network):
    traced = trace(network, ["x"])
    node = [node for node in traced.graph.nodes if node.op not in ("placeholder", "output")][-1]
    return layout_of_node(node, dict(network.named_modules()))


class Steps(nn.Module):
    def __init__(self, steps, **modules):
        super().__init__()
        self.steps = steps
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.steps(self, x)


@pytest.mark.parametrize(
    ("steps", "layout"),
    [
        (lambda net, x: net.conv(x), "first"),
        (lambda net, x: torch.relu(net.conv(x)), "first"),
        (lambda net, x: net.conv(x).permute(0, 2, 3, 1), "last"),
        (lambda net, x: net.conv(x).permute((0, 2, 3, 1)).permute(0, 3, 1, 2), "first"),
        (lambda net, x: net.conv(x).flatten(2).transpose(1, 2), "last"),
        (lambda net, x: net.conv(x).flatten(2).transpose(-1, -2) * 2, "last"),
        (lambda net, x: net.norm(net.conv(x).permute(0, 2, 3, 1)), "last"),
        (lambda net, x: net.linear(x) + 1, "last"),
        (lambda net, x: net.linear(x).transpose(1, 2), "first"),
        (lambda net, x: torch.nn.functional.avg_pool2d(x, 2), "first"),
        (lambda net, x: x * 2, None),
    ],
)
def test_the_nearest_layer_upstream_decides(steps, layout):
    assert layout_of_last(Steps(steps, conv=nn.Conv2d(3, 4, 1), norm=nn.LayerNorm(4), linear=nn.Linear(8, 8))) == layout


def test_a_module_says_what_its_last_child_that_knows_says():
    assert layout_of_modules([nn.ReLU(), nn.Sequential(nn.Linear(1, 1), nn.BatchNorm2d(1), nn.ReLU())]) == "first"
    assert layout_of_modules([nn.ReLU(), nn.LayerNorm(1), nn.Conv2d(1, 1, 1)]) == "last"
    assert layout_of_modules([nn.ReLU()]) is None


def averaged(network, x, names, axes):
    features = ModelHandler(network, device="cpu").extract(x, names, pooling="avg")
    outputs = hooked(network, (x,), names)
    for name in names:
        torch.testing.assert_close(
            torch.from_numpy(features.values[name]), outputs[name].mean(axes[name]), rtol=1e-4, atol=1e-5
        )


def test_swin_blocks_are_averaged_over_height_and_width():
    from torchvision.models import swin_t

    axes = {"features.0.0": (2, 3), "features.1": (1, 2), "features.2": (1, 2), "features.5.0": (1, 2), "norm": (1, 2)}
    averaged(swin_t(weights=None), images(2, height=64, width=96), list(axes), axes)


def test_convnext_blocks_are_averaged_over_height_and_width():
    from torchvision.models import convnext_tiny

    axes = {"features.0": (2, 3), "features.1": (2, 3), "features.1.0.block.3": (1, 2), "features.2": (2, 3)}
    averaged(convnext_tiny(weights=None), images(2, height=64, width=96), list(axes), axes)


def test_vision_transformer_tokens_are_averaged_over_the_tokens():
    from torchvision.models import VisionTransformer

    network = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)
    names = ["conv_proj", "encoder.layers.encoder_layer_0", "encoder"]
    averaged(network, images(2, height=32, width=32), names, dict(zip(names, [(2, 3), 1, 1])))


def test_sequences_of_convolutions_are_averaged_over_the_last_axis():
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True))
    averaged(network, torch.randn(4, 3, 9), ["0", "1", "2"], {"0": 2, "1": 2, "2": 2})


def test_layouts_are_found_by_hooks_too():
    def steps(net, x):
        if x.sum() > 1e9:
            return x
        return net.norm(net.conv(x).permute(0, 2, 3, 1))

    network = Steps(steps, conv=nn.Conv2d(3, 4, 1), norm=nn.LayerNorm(4))
    averaged(network, images(3, height=5, width=7), ["conv", "norm"], {"conv": (2, 3), "norm": (1, 2)})
