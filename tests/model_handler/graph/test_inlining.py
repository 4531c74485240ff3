"""Leaves that are leaves for the sake of training are opened for extraction, and only what can be followed."""

import torch
from torch import nn

from model_handler import load_source
from model_handler.graph.inlining import inline
from model_handler.graph.tracing import trace
from model_handler.network.replica import share_weights
from tests.model_handler.networks import handle, hooked, images, snapshot


class Skipping(nn.Module):
    """A block of two layers that sometimes skips itself in training."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x, rate=0.0):
        y = self.relu(self.bn(self.relu(self.conv(x))))
        if self.training:
            y = y * (torch.rand(len(y), 1, 1, 1) > 0.5)
        return y + x + rate


class Choosing(nn.Module):
    """Its path depends on the numbers, in both modes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 1e9 else -self.conv(x)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.choosing = Skipping(), Skipping(), Choosing()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = self.choosing(self.second(self.first(x), rate=0.5))
        return self.head(x.mean((2, 3)))


def opened(network):
    replica = share_weights(network)
    traced = trace(replica, ("x",))
    return traced, inline(replica, traced)


def targets(graph):
    return [str(node.target) for node in graph.nodes if node.op == "call_module"]


def test_blocks_that_differ_in_training_are_opened_and_data_dependent_ones_are_not():
    traced, inlined = opened(Network())
    assert targets(traced.graph) == ["first", "second", "choosing", "head"]
    blocks = [f"{block}.{layer}" for block in ("first", "second") for layer in ("conv", "relu", "bn", "relu")]
    assert targets(inlined.graph) == [*blocks, "choosing", "head"]
    assert len(inlined.inside["first.relu"]) == 2


def test_opening_leaves_network_and_trace_as_they_were():
    network = Network()
    before = snapshot(network)
    opened(network)
    assert str(snapshot(network)) == str(before)


def test_a_block_that_a_hook_watches_stays_closed():
    network = Network()
    network.second.register_forward_hook(lambda module, arguments, output: output + 1)
    _, inlined = opened(network)
    assert "second" in targets(inlined.graph)
    assert "first" not in targets(inlined.graph)


def test_a_block_that_makes_constants_stays_closed():
    class Making(Skipping):
        def forward(self, x):
            return super().forward(x) * torch.tensor([2.0])

    network = Network()
    network.first = Making()
    _, inlined = opened(network)
    assert targets(inlined.graph)[0] == "first"


def test_layers_inside_come_from_one_pass_under_the_names_that_hooks_know():
    network, x = Network().eval(), images()
    calls = []
    network.first.conv.register_forward_hook(lambda module, arguments, output: calls.append(len(output)))
    names = ["first.conv", "first.relu", "first.bn", "first", "second.relu@1", "second", "choosing.conv", "head"]
    handler = handle(network)
    listed = handler.layer_names
    handler.extract(x, names[:6])
    calls.clear()
    features = handler.extract(x, names[:6])
    assert sum(calls) == len(x)  # not once by the graph and once by hooks
    assert handler.layer_names == listed == ["first", "second", "choosing", "mean", "head"]
    wanted = hooked(network, (x,), names[2:4] + names[5:6])
    for name, tensor in wanted.items():
        torch.testing.assert_close(torch.from_numpy(features.values[name]), tensor.flatten(1))
    with torch.no_grad():
        first = network.first.conv(x).relu()
        torch.testing.assert_close(torch.from_numpy(features.values["first.relu"]), first.flatten(1))
        last = network.second.bn(network.second.conv(wanted["first"]).relu()).relu()
        torch.testing.assert_close(torch.from_numpy(features.values["second.relu@1"]), last.flatten(1))


def test_what_stays_closed_is_still_reached_by_hooks():
    network, x = Network().eval(), images()
    features = handle(network).extract(x, ["first.conv", "choosing.conv", "head"])
    for name, tensor in hooked(network, (x,), ["first.conv", "choosing.conv", "head"]).items():
        torch.testing.assert_close(torch.from_numpy(features.values[name]), tensor.flatten(1))


def test_edits_keep_the_blocks_whole_and_extraction_still_opens_them():
    network, x = Network().eval(), images()
    handler = handle(network).truncate("second")
    features = handler.extract(x, ["first.bn", "second"])
    for name, tensor in hooked(network, (x,), ["first.bn", "second"]).items():
        torch.testing.assert_close(torch.from_numpy(features.values[name]), tensor.flatten(1))


def test_the_default_network_is_opened_whole():
    source = load_source("efficientnet-lite0")
    handler = handle(source)
    x = images(2, height=64, width=64)
    names = ["_blocks.0._bn1", "_blocks.3._project_conv", "_blocks.7", "_avg_pooling"]
    replica = share_weights(source.network)
    traced = trace(replica, ("inputs",))
    inlined = inline(replica, traced)
    assert not [target for target in targets(inlined.graph) if target in traced.promoted]
    features = handler.extract(x, names, pooling="avg")
    for name, tensor in hooked(source.network, (x,), names).items():
        wanted = tensor.mean((2, 3)).double()
        got = torch.from_numpy(features.values[name]).double()
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
