"""Drawings from outside: which boxes and edges a network has, at which depth, and what is refused."""

import re
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.models import densenet121, resnet50

from model_handler import ModelError, UnknownLayerError
from tests.model_handler.drawing.pictures import Interleaved, boxes, edges, resnet
from tests.model_handler.networks import Attention, DataDependent, Shared, TwoInputs, handle

TOP = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc"]


@cache
def densenet():
    return handle(densenet121(weights=None))


def chain(*names):
    return set(pairwise(names))


def test_resnet50_at_depth_1_is_one_chain_of_thirteen_boxes():
    drawing = handle(resnet50(weights=None), torch.zeros(1, 3, 64, 64)).visualize_net()
    assert list(boxes(drawing)) == ["x", *TOP, "output"]
    assert edges(drawing) == chain("x", *TOP, "output")
    assert boxes(drawing)["layer1"].lines == ("3 × Bottleneck", "32 layers · 216 k parameters", "(1, 256, 16, 16)")  # noqa: RUF001
    assert boxes(drawing)["fc"].lines == ("Linear · 2.05 M parameters", "(1, 1000)")
    assert boxes(drawing)["x"].lines == ("input", "(1, 3, 64, 64)")
    assert drawing.diagram.subtitle == "175 layers, 25.6 M parameters"


def test_an_unfolded_block_shows_its_shortcut():
    drawing = resnet().visualize_net(unfold=["layer2.0", "layer2.1"])
    inside = [f"layer2.0.{name}" for name in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu@1")]
    after = [f"layer2.1.{name}" for name in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu@1")]
    expected = chain("x", *TOP[:5], *inside, *after, *TOP[6:], "output")
    expected |= chain("layer1", "layer2.0.downsample", "layer2.0.add") | {("layer2.0.relu@1", "layer2.1.add")}
    assert edges(drawing) == expected


def test_a_container_is_unfolded_by_one_level():
    shown = list(boxes(resnet().visualize_net(unfold="layer3")))
    assert shown == ["x", *TOP[:6], "layer3.0", "layer3.1", *TOP[7:], "output"]


def test_without_a_depth_every_layer_is_a_box():
    handler = resnet()
    drawing = handler.visualize_net(depth=None)
    assert list(boxes(drawing)) == ["x", *handler.layer_names, "output"]
    skips = {
        ("maxpool", "layer1.0.add"),
        ("layer1.0.relu@1", "layer1.1.add"),
        ("layer2.0.downsample.1", "layer2.0.add"),
    }
    assert skips <= edges(drawing)
    assert len(edges(drawing)) == len(handler.layer_names) + 1 + 8  # every box reads one other, each addition two


@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_every_layer_is_in_exactly_one_box_and_edges_go_to_later_boxes(depth):
    handler = densenet()
    drawing = handler.visualize_net(depth=depth)
    shown = [name for box in drawing.diagram.boxes for name in box.layers]
    assert sorted(shown) == sorted(handler.layer_names)
    assert all(edge.tail < edge.head for edge in drawing.diagram.edges)


def test_dense_layers_read_all_that_came_before_them():
    drawing = densenet().visualize_net(depth=2, unfold="features.denseblock1")
    read = {tail for tail, head in edges(drawing) if head == "features.denseblock1.denselayer3"}
    assert read == {"features.pool0", "features.denseblock1.denselayer1", "features.denseblock1.denselayer2"}


def test_lists_that_take_turns_are_not_folded_into_a_circle():
    drawing = handle(Interleaved()).visualize_net()
    turns = [f"{name}.{number}" for number in range(3) for name in ("lines", "norms")]
    assert edges(drawing) == chain("x", *turns, "output")


def test_each_call_of_a_shared_module_has_its_box():
    drawing = handle(Shared()).visualize_net()
    assert edges(drawing) == chain("x", "a", "relu", "b", "relu@1", "sub", "relu@2", "output")


def test_inputs_and_outputs_of_several_parts():
    inputs = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 2)}
    drawing = handle(TwoInputs(), inputs).visualize_net()
    assert edges(drawing) == chain("a", "left", "add", "bn", "output") | chain("b", "right", "relu", "add")
    assert boxes(drawing)["b"].lines == ("input", "(2, 2)")

    class TwoOutputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            x = self.body(x)
            return {"one": self.one(x), "two": self.two(x)}

    drawing = handle(TwoOutputs()).visualize_net()
    assert edges(drawing) == chain("x", "body", "one", "output") | chain("body", "two", "output")
    assert boxes(drawing)["output"].lines == ("dict: one, two",)


def test_what_only_takes_a_part_or_a_size_is_passed_through():
    drawing = handle(Attention()).visualize_net()
    assert edges(drawing) == chain("x", "attention", "lstm", "getitem", "output")

    class Resized(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            n = x.size(0)
            return self.second(self.first(x)).view(n, -1)

    assert edges(handle(Resized()).visualize_net()) == chain("x", "first", "second", "view", "output")


def test_what_was_written_into_is_read_on():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            x = self.fc(x)
            x.clamp_(0.0, 1.0)
            return x.exp()

    assert edges(handle(Masked()).visualize_net()) == chain("x", "fc", "clamp", "exp", "output")


def test_without_a_graph_modules_stand_in_the_order_in_which_they_ran():
    order = ["x", "stem", "block.0", "block.1", "block.0@1", "block.1@1", "head", "output"]
    drawing = handle(DataDependent(), torch.zeros(2, 4)).visualize_net(depth=None)
    assert edges(drawing) == chain(*order)
    assert "order in which they ran" in drawing.diagram.note
    assert edges(handle(DataDependent(), torch.zeros(2, 4)).visualize_net()) == chain(
        "x", "stem", "block", "head", "output"
    )
    assert "order of their registration" in handle(DataDependent()).visualize_net().diagram.note


def test_an_unknown_container_is_refused_with_the_nearest():
    with pytest.raises(UnknownLayerError, match=re.escape("no layer is named 'layer44'; nearest: ['layer4'")):
        resnet().visualize_net(unfold=["layer3", "layer44"])


def test_a_layer_cannot_be_unfolded():
    with pytest.raises(ModelError, match=re.escape("['fc'] cannot be unfolded")):
        resnet().visualize_net(unfold="fc")


@pytest.mark.parametrize("depth", [0, -1, True, 1.5])
def test_a_depth_is_a_whole_number(depth):
    with pytest.raises(ModelError, match=f"depth must be a whole number from 1 on, or None .* got {depth!r}"):
        resnet().visualize_net(depth=depth)


def test_very_deep_networks_are_drawn():
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(1200)))
    assert handle(network).visualize_net(depth=None)._repr_svg_().count('class="edge"') == 1201
