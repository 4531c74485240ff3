"""Networks that run a graph are ordinary modules: copied, saved, trained, compiled, exported, handled again."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from model_handler import ModelError
from tests.model_handler.networks import Residual, Shared, handle, images, saved_and_loaded, snapshot


def test_the_handed_out_module_is_an_ordinary_one_of_its_own():
    network, x = resnet18(weights=None), images(2, height=64, width=64)
    handler = handle(network, x).drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(10)))
    module = handler.get_module()
    assert list(module.state_dict()) == list(network.state_dict())
    kept = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    assert all(torch.equal(module.state_dict()[key], value) for key, value in kept.items())
    assert module.load_state_dict(kept, strict=False).missing_keys == ["fc.weight", "fc.bias"]
    wanted = module.eval()(x)
    for variant in (copy.deepcopy(module), saved_and_loaded(module), copy.deepcopy(saved_and_loaded(module))):
        assert list(variant.state_dict()) == list(module.state_dict())
        assert not variant.training
        torch.testing.assert_close(variant(x), wanted)
        assert not {id(p) for p in variant.parameters()} & {id(p) for p in module.parameters()}
    assert module.double()(x.double()).dtype == torch.float64
    assert next(handler.get_module().parameters()).dtype == torch.float32
    again = handler.get_module()
    handler.truncate("layer1")
    assert "fc" in dict(again.named_children())


def test_the_handed_out_module_can_be_handled_again_compiled_and_exported():
    x = images()
    handler = handle(Residual(), x).drop_layer_top(1).add_layer_top(nn.LazyLinear(2))
    module = handler.get_module().eval()
    wanted = module(x).detach()
    torch.testing.assert_close(torch.tensor(handle(module, x).extract(x, ["linear"]).matrix), wanted)
    torch.testing.assert_close(torch.compile(module, backend="eager")(x).detach(), wanted)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x).detach(), wanted)


def test_a_container_of_the_networks_own_class_says_why_it_cannot_be_called():
    module = handle(Residual(), images()).drop_layer_top(1).get_module()
    with pytest.raises(ModelError, match="holds modules alone: call the network, or a layer in here"):
        module.layer1[0](images())


def test_aliases_and_shared_modules_keep_all_their_names():
    network = Shared()
    network.b.weight = network.a.weight
    module = handle(network, torch.randn(2, 4)).drop_layer_top(1).get_module()
    assert module.alias is module.relu
    assert module.a.weight is module.b.weight
    assert list(module.state_dict()) == list(network.state_dict())


def test_buffers_that_became_constants_stay_in_the_state_dict():
    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("places", torch.tensor([2, 0, 1]))
            self.register_buffer("passing", torch.ones(1), persistent=False)
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x[:, self.places.view(-1)])

    network, x = nn.Sequential(Indexed(), nn.ReLU()), torch.randn(2, 3)
    module = handle(network, x).drop_layer_top(1).get_module()
    assert module.state_dict().keys() == network.state_dict().keys()
    torch.testing.assert_close(module(x), network[0].fc(x[:, [2, 0, 1]]))


class KeepsStatistics(nn.Module):
    """Its BatchNorm stays in evaluation mode, as in many networks for detection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.dropout = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.bn(self.conv(x)))

    def train(self, mode: bool = True) -> "KeepsStatistics":
        super().train(mode)
        self.bn.eval()
        return self


@pytest.mark.parametrize("nested", [True, False])
def test_what_a_train_of_its_own_keeps_in_evaluation_stays_so_after_an_edit(nested):
    network = nn.Sequential(KeepsStatistics()) if nested else KeepsStatistics()
    before = snapshot(network)
    handler = handle(network, images()).add_layer_top(("last", nn.ReLU()))
    handler.rename("last", "end")
    for module in (handler.get_module(), copy.deepcopy(handler.get_module()), saved_and_loaded(handler.get_module())):
        module.train()
        held = [path for path, part in module.named_modules() if not part.training]
        assert held == ["0.bn" if nested else "bn"]
    assert snapshot(network) == before


class Words(nn.Module):
    """Modules whose names are words of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({"in": nn.Linear(4, 4), "or": nn.Sequential(nn.Linear(4, 4)), "a b ": nn.ReLU()})

    def forward(self, x: Tensor) -> Tensor:
        for gate in self.gates.values():
            x = gate(x)
        return x


def test_modules_may_be_called_by_words_of_the_language():
    network, x = Words().eval(), torch.randn(3, 4)
    wanted = network(x).detach()
    handler = handle(network, x)
    features = handler.extract(x, ["gates.in", "gates.a b "])
    torch.testing.assert_close(torch.tensor(features.values["gates.a b "]), wanted)
    module = handler.add_layer_top(("class", nn.Identity())).get_module()
    assert list(module.state_dict()) == list(network.state_dict())
    for variant in (module, saved_and_loaded(module), handle(module, x).rename("class", "def").get_module()):
        torch.testing.assert_close(variant(x), wanted)


class Multiplies(nn.Module):
    """Reads the weights of its layers and calls neither, as the attention of BEiT and Swin-V2 does."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.partly = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        whole = nn.functional.linear(x, self.whole.weight, self.whole.bias)
        return nn.functional.linear(whole, self.partly.weight)


def test_a_layer_whose_weights_another_one_reads_is_still_that_layer_and_takes_adapters():
    x = torch.rand(2, 4)
    handler = handle(nn.Sequential(Multiplies(), nn.Linear(4, 2)), x).truncate("0")
    assert type(handler.get_module().get_submodule("0.whole")) is nn.Linear
    adapted = handler.add_adapters("0.whole", rank=2).get_module()
    before = adapted(x)
    nn.init.ones_(adapted.get_parameter("0.whole.lora_B"))
    assert not torch.equal(adapted(x), before)
    assert list(handler.merge_adapters().get_module().state_dict()) == [
        "0.whole.weight",
        "0.whole.bias",
        "0.partly.weight",
    ]
