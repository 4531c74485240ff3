"""What each backend lists, knows and builds."""

import pytest
import torch
from torch import nn

from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.extraction.pooling import Wanted
from model_handler.extraction.programs import Pass
from model_handler.graph.tracing import trace
from model_handler.network.inputs import default_input_names
from tests.model_handler.networks import Attention, DataDependent, Residual, Shared, hooked, images


class Inside(nn.Module):
    """A leaf by promotion, with layers inside."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.bn(self.conv(x)).relu_()


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.fc = Inside(), nn.Linear(4, 2)

    def forward(self, x):
        x.mul_(2)
        return self.fc(self.inside(x).mean((2, 3)))


def traced(network):
    return TracedBackend(network, trace(network, default_input_names(network)))


def rows(backend, network, names, inputs, pooling="flatten"):
    with torch.no_grad():
        programs = backend.programs(network.eval(), [Wanted(name, pooling) for name in names], inputs)
        return Pass(programs).run(inputs, None)


def test_hooks_list_all_leaves_until_something_ran():
    backend = HookBackend(DataDependent(), ["x"])
    assert list(backend.layers) == ["stem", "block.0", "block.1", "head"]
    backend.dry_run(DataDependent().eval(), {"x": torch.randn(2, 4)})
    assert list(backend.layers) == ["stem", "block.0", "block.1", "block.0@1", "block.1@1", "head"]


def test_a_leafs_own_layers_are_not_listed_but_known():
    backend = HookBackend(nn.Sequential(nn.TransformerEncoderLayer(4, 2, 4), nn.Linear(4, 1)), ["input"])
    assert list(backend.layers) == ["0", "1"]
    assert backend.knows("0.linear1")


def test_names_are_known_by_layer_container_alias_repeat_and_index():
    backend = traced(Shared())
    assert all(map(backend.knows, ["a", "relu", "relu@1", "relu@2", "sub", "alias", "relu[0]"]))
    assert not any(map(backend.knows, ["", "c", "relu@3", "relu@x", "sub@1", "a@1", "relu[x]", "rel"]))
    hooks = HookBackend(Shared(), ["x"])
    assert all(map(hooks.knows, ["a", "relu@1", "alias"]))
    assert not any(map(hooks.knows, ["", "sub", "relu@x"]))


def test_a_container_means_its_last_output_and_hooks_its_last_call():
    network, x = DataDependent().eval(), torch.randn(3, 4)
    (row,) = rows(HookBackend(network, ["x"]), network, ["block"], {"x": x})
    with torch.no_grad():
        assert torch.equal(row, network.block(network.block(network.stem(x))))


def test_an_alias_reaches_the_module_it_stands_for():
    network, x = Shared(), torch.randn(3, 4)
    by_alias, by_name = rows(traced(network), network, ["alias", "relu"], {"x": x})
    assert torch.equal(by_alias, by_name)


def test_layers_inside_a_leaf_and_operations_come_in_the_order_asked():
    network = Mixed()
    inputs = images()
    found = hooked(network, (inputs,), ["inside.conv", "inside.bn", "inside", "fc"])
    backend = traced(network)
    assert list(backend.layers) == ["mul", "inside", "mean", "fc"]
    names = ["mean", "inside.bn", "fc", "inside.conv"]
    result = rows(backend, network, names, {"x": inputs.clone()})
    wanted = [found["inside"].mean((2, 3)), found["inside.bn"].flatten(1), found["fc"], found["inside.conv"].flatten(1)]
    for got, expected in zip(result, wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_dry_run_gives_the_shapes_that_hooks_see():
    network, x = Residual().eval(), images()
    for backend in (traced(network), HookBackend(network, ["x"])):
        with torch.no_grad():
            seen = backend.dry_run(network, {"x": x.clone()})
        names = [name for name in backend.layers if name in dict(network.named_modules())]
        shapes = {name: tuple(output.shape) for name, output in hooked(network, (x,), names).items()}
        assert {name: seen.shapes[name] for name in names} == shapes
        torch.testing.assert_close(seen.output, network(x))


def test_layers_of_several_tensors_have_no_shape():
    network = Attention().eval()
    for backend in (traced(network), HookBackend(network, ["x"])):
        assert not {"attention", "lstm"} & set(backend.dry_run(network, {"x": torch.randn(2, 5, 4)}).shapes)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_a_scripted_child_is_one_layer():
    network = nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.ReLU())), nn.Linear(3, 2))
    x = torch.randn(4, 3)
    assert list(traced(network).layers) == ["0", "1"]
    row, last = rows(traced(network), network, ["0", "1"], {"input": x})
    assert torch.equal(row, network[0](x).detach())
    assert torch.equal(last, network(x).detach())
