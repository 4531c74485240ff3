"""Adapted layers: whoever reads or calls them gets the changed layer, and traces stay those of the plain network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.extraction.batchnorm_fusion import BatchNormFusion
from model_handler.frozen_prefix.splitting import split
from model_handler.graph.tracing import trace
from model_handler.network.adapted_layer import adapted_layers, without_adapters
from tests.model_handler.adapters.networks import answer, family, randomise
from tests.model_handler.networks import handle


class Reader(nn.Module):
    """Reads the weights of its layers, and calls none of them but the last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, weight=self.first.weight, bias=self.first.bias)
        return self.third(torch.tanh(x) @ self.second.weight.t())


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_weight_that_is_read_is_the_changed_one() -> None:
    network, x = Reader(), rows(3, 4)
    module = randomise(handle(network, x).add_adapters(["first", "second"], rank=2).get_module())
    changed = {
        name: network.get_submodule(name).weight + layer.lora_B @ layer.lora_A
        for name, layer in adapted_layers(module).items()
    }
    wanted = network.third(torch.tanh(F.linear(x, changed["first"], network.first.bias)) @ changed["second"].t())
    torch.testing.assert_close(module(x), wanted)
    assert torch.equal(module.first._parameters["weight"], network.first.weight)
    gradients = torch.autograd.grad(module(x).square().sum(), [module.second.lora_A, module.first.lora_B])
    for got, reference in zip(
        gradients, torch.autograd.grad(wanted.square().sum(), [module.second.lora_A, module.first.lora_B]), strict=True
    ):
        torch.testing.assert_close(got, reference)


@pytest.mark.parametrize("name", ["BEiT", "ViT of torchvision", "Swin-V2"])
def test_a_graph_has_the_layers_of_the_plain_network(name: str) -> None:
    network, inputs = family(name)
    handler = handle(network, inputs)
    names = handler.layer_names
    module = handler.add_adapters("all", rank=1).get_module()
    assert handler.layer_names == names
    assert handle(module, inputs).layer_names == names
    plain, adapted = (trace(copy.deepcopy(each).eval(), ["x"]).graph for each in (network, module))
    assert [(node.op, node.target) for node in adapted.nodes] == [(node.op, node.target) for node in plain.nodes]


@pytest.mark.parametrize(
    ("name", "where", "last"),
    [("BEiT", "blocks.1", "blocks.0.drop_path2"), ("ConvNeXt", "stages.3", "stages.3.downsample.0")],
)
def test_the_frozen_part_ends_where_adapters_begin(name: str, where: str, last: str) -> None:
    network, inputs = family(name)
    module = randomise(handle(network, inputs).add_adapters(where, rank=1).get_module()).train()
    frontier = split(module, inputs).frontier
    assert frontier is not None
    assert frontier.last_layer == last
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    got, wanted = frontier.rest(*frontier.values(inputs, folded=False)), module(inputs)
    torch.testing.assert_close(got, wanted)
    sums = got.square().sum(), wanted.square().sum()
    for gradients in zip(*(torch.autograd.grad(each, learning) for each in sums), strict=True):
        torch.testing.assert_close(*gradients)


def test_convolutions_with_adapters_are_not_folded_into_norms() -> None:
    network, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)),
        rows(2, 3, 8, 8),
    )
    module = randomise(handle(network.eval(), x).add_adapters("convolution", rank=2).get_module())
    assert BatchNormFusion().apply(torch.fx.symbolic_trace(copy.deepcopy(module))) == []
    assert len(BatchNormFusion().apply(torch.fx.symbolic_trace(copy.deepcopy(network)))) == 2
    features = handle(module, x).extract(x, ["3"]).matrix
    torch.testing.assert_close(torch.tensor(features), answer(module, x).flatten(1))


def test_it_compiles_as_the_plain_layer_does() -> None:
    module = randomise(handle(Reader(), rows(3, 4)).add_adapters("all", rank=2).get_module())
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert torch.equal(answer(compiled, rows(3, 4)), answer(module, rows(3, 4)))


def test_its_class_tells_libraries_what_the_source_s_does_and_people_more() -> None:
    module = handle(Reader()).add_adapters("first", rank=2).get_module()
    layer = module.first
    assert isinstance(layer, nn.Linear)
    assert (type(layer).__name__, type(layer).__module__) == ("Linear", nn.Linear.__module__)
    assert repr(layer) == "Linear(in_features=4, out_features=4, bias=True, lora of rank 2)"
    with pytest.raises(AttributeError, match="lora_C"):
        _ = layer.lora_C


def test_adapters_are_put_aside_for_a_while() -> None:
    network, x = Reader(), rows(3, 4)
    module = randomise(handle(network, x).add_adapters("all", rank=2).get_module())
    before = answer(module, x)
    with without_adapters(module):
        assert torch.equal(answer(module, x), answer(network, x))
    assert torch.equal(answer(module, x), before)


@pytest.mark.parametrize("kind", ["lora", "bias", "scale_shift"])
def test_the_input_may_be_given_by_its_name(kind: str) -> None:
    layer, x = nn.Linear(4, 3), rows(2, 4)
    module = randomise(handle(nn.Sequential(layer)).add_adapters("0", kind, rank=2).get_module())
    assert torch.equal(module[0](input=x), module(x))


class WithNames(nn.Linear):
    """A layer that has a factor of its own."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.lora_A = nn.Parameter(torch.ones(2, 4))


def test_a_name_that_is_taken_is_refused() -> None:
    handler = handle(nn.Sequential(WithNames()))
    with pytest.raises(ModelError, match=r"a WithNames has \['lora_A'\] of its own"):
        handler.add_adapters("0", rank=2)
    assert handler.adapters == ()
