"""Freezing: what is frozen stays so in what `get_module` hands out, whatever is done with it."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, UnknownLayerError
from tests.model_handler.networks import TREATMENTS, DataDependent, Residual, handle, images, train_one_epoch


@pytest.mark.parametrize("treat", TREATMENTS)
@pytest.mark.parametrize("edited", [False, True])
def test_frozen_parts_stay_bit_identical_after_train_copies_and_files(treat, edited):
    network, x = Residual(), images()
    handler = handle(network, x)
    if edited:
        handler.drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(3)))
    module = treat(handler.freeze(up_to="layer1.0").get_module())
    changed = train_one_epoch(module, x)
    frozen = {key for key in module.state_dict() if key.startswith(("conv1", "bn1", "layer1.0"))}
    assert not changed & frozen
    norm = {"layer1.1.bn.running_mean", "layer1.1.bn.running_var", "layer1.1.bn.num_batches_tracked"}
    assert {"layer1.1.conv.weight", "fc.weight", *norm} <= changed
    assert not module.bn1.training
    assert module.layer1[1].bn.training
    assert all(parameter.grad is None for key, parameter in module.named_parameters() if key in frozen)


def test_complex_weights_are_frozen_and_learn_again():
    class Filter(nn.Module):
        def __init__(self):
            super().__init__()
            self.spectrum = nn.Parameter(torch.ones(3, dtype=torch.complex64))

        def forward(self, x):
            return torch.fft.irfft(torch.fft.rfft(x) * self.spectrum, n=4)

    handler = handle(nn.Sequential(Filter(), nn.Linear(4, 2)), torch.ones(2, 4)).freeze("0")
    assert not handler.get_module()[0].spectrum.requires_grad
    assert handler.unfreeze("0").get_module()[0].spectrum.requires_grad


def test_dropout_is_off_in_the_frozen_part_alone():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(4, 50), nn.Dropout())
            self.second = nn.Sequential(nn.Linear(50, 50), nn.Dropout())

        def forward(self, x):
            return self.second(self.first(x))

    x = torch.randn(3, 4)
    module = handle(Dropped()).freeze("first").get_module().train()
    assert torch.equal(module.first(x), module.first(x))
    assert not torch.equal(module(x), module(x))
    module.first.train()
    module.first[1].train(True)
    assert torch.equal(module.first(x), module.first(x))
    assert module.first.train() is module.first
    assert module.first.eval() is module.first


def test_statistics_may_move_where_asked():
    module = handle(Residual(), images()).freeze(up_to="layer1", norm_stats=False).get_module()
    changed = train_one_epoch(module, images())
    assert "bn1.running_mean" in changed
    assert "layer1.0.bn.running_var" in changed
    assert not any(key.endswith(("weight", "bias")) for key in changed - {"fc.weight", "fc.bias"})
    assert not module.eval().bn1.training
    with pytest.raises(ModelError, match="norm_stats must be True or False, got 'no'"):
        handle(Residual()).freeze("conv1", norm_stats="no")


def test_one_misspelt_name_freezes_nothing():
    handler = handle(Residual())
    with pytest.raises(UnknownLayerError) as caught:
        handler.freeze(["conv1", "layre1", "bn"])
    assert "'layre1'; nearest: ['layer1'" in str(caught.value)
    assert "no layer is named 'bn'" in str(caught.value)
    with pytest.raises(UnknownLayerError, match="layer9"):
        handler.freeze(up_to="layer9")
    assert handler.edits == ()
    assert all(parameter.requires_grad for parameter in handler.get_module().parameters())


def test_up_to_follows_execution_and_takes_parameters_that_operations_read():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.embed = nn.Linear(4, 4), nn.Linear(4, 4)
            self.position = nn.Parameter(torch.zeros(4))
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.last(self.embed(x) + self.position) * self.scale

    handler = handle(Tokens())
    learns = {name: p.requires_grad for name, p in handler.freeze(up_to="add").get_module().named_parameters()}
    assert {name for name, learning in learns.items() if not learning} == {
        "embed.weight",
        "embed.bias",
        "position",
    }
    module = handler.undo().freeze(up_to="mul").get_module()
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_types_and_their_families():
    handler = handle(Residual(), images())
    module = handler.freeze(types="batchnorm").get_module()
    assert {name for name, p in module.named_parameters() if not p.requires_grad} == {
        f"{path}.{key}" for path in ("bn1", "layer1.0.bn", "layer1.1.bn") for key in ("weight", "bias")
    }
    assert [layer.name for layer in handler.layers if layer.n_parameters and not layer.trainable] == [
        "bn1",
        "layer1.0.bn",
        "layer1.1.bn",
    ]
    with pytest.raises(ModelError, match="no module of type 'recurrent'"):
        handler.freeze(types="recurrent")
    with pytest.raises(ModelError, match="no layer type 'batchnrm'"):
        handler.freeze(types=[nn.Linear, "batchnrm"])


def test_exactly_one_choice_is_needed_and_operations_have_nothing_to_freeze():
    handler = handle(Residual())
    for choice in ({}, {"names": "fc", "up_to": "fc"}, {"up_to": "fc", "types": nn.Linear}):
        with pytest.raises(ModelError, match="give one of names, up_to and types"):
            handler.freeze(**choice)
    with pytest.raises(ModelError, match="names is empty"):
        handler.freeze([])
    with pytest.raises(ModelError, match=r"\['flatten'\] are operations"):
        handler.freeze(["fc", "flatten"])


def test_unfreeze_lets_learn_again():
    network, x = Residual(), images()
    network.conv1.requires_grad_(False)
    handler = handle(network, x).freeze(up_to="fc").unfreeze(["layer1.1", "conv1"])
    changed = train_one_epoch(handler.get_module(), x)
    assert {".".join(key.split(".")[:2]) for key in changed} == {"conv1.weight", "conv1.bias", "layer1.1"}
    assert "layer1.1.bn.running_mean" in changed
    assert not network.conv1.weight.requires_grad
    assert handler.edits[-1] == "unfreeze(['layer1.1', 'conv1'])"


def test_a_frozen_module_handled_again_stays_frozen_until_unfrozen():
    x = images()
    frozen = handle(Residual(), x).freeze(["bn1", "layer1"]).get_module().train()
    again = handle(frozen, x).drop_layer_top(1).add_layer_top(nn.LazyLinear(2))
    changed = train_one_epoch(again.get_module(), x)
    assert not {key for key in changed if key.startswith(("bn1", "layer1"))}
    changed = train_one_epoch(again.unfreeze("layer1").get_module(), x)
    assert "layer1.0.bn.running_mean" in changed
    assert "layer1.0.conv.weight" in changed
    assert "bn1.running_mean" not in changed


def test_a_new_layer_under_an_old_name_is_not_frozen_with_it():
    handler = handle(Residual(), images()).freeze("fc").drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(3)))
    assert handler.get_module().fc.weight.requires_grad
    assert handler.layers[-1].trainable


def test_networks_that_cannot_be_traced_freeze_too():
    network, x = DataDependent(), torch.randn(3, 4)
    module = handle(network, x).freeze(up_to="block").get_module()
    assert train_one_epoch(module, x) == {"head.weight", "head.bias"}
    module = handle(network).freeze("head").get_module()
    assert "head.weight" not in train_one_epoch(module, x)
    with pytest.raises(ModelError, match="make the handler with example inputs"):
        handle(network).freeze(up_to="block")


class Tokens(nn.Module):
    """Parameters that containers hold themselves, as of class tokens, in a network that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.embeddings, self.head = nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 2)
        self.embeddings.bias = nn.Parameter(torch.ones(4))
        self.token = nn.Parameter(torch.ones(4))

    def forward(self, x):
        x = self.embeddings(x + self.token) + self.embeddings.bias
        return self.head(x if x.sum() > -1e9 else -x)


@pytest.mark.parametrize("up_to", ["embeddings", "embeddings.0"])
def test_without_a_graph_the_parameters_of_containers_are_frozen_too(up_to):
    torch.manual_seed(0)
    module = handle(Tokens(), torch.randn(3, 4)).freeze(up_to=up_to).get_module()
    assert train_one_epoch(module, torch.randn(3, 4)) == {"head.weight", "head.bias"}


def test_without_a_graph_nothing_is_frozen_up_to_what_did_not_run():
    network = DataDependent()
    network.spare = nn.Linear(4, 4)
    handler = handle(network, torch.randn(3, 4))
    with pytest.raises(ModelError, match="'spare' did not run"):
        handler.freeze(up_to="spare")
    assert handler.edits == ()


def test_parameters_named_to_get_module_are_fixed_or_random_in_this_module_alone():
    network, x = Residual(), images()
    handler = handle(network, x)
    fixed = handler.get_layer_parameters(["conv1", "bn1", "layer1.0"])
    module = handler.get_module(fixed_layer_parameters=fixed, random_layer_parameters=["fc.weight", "fc.bias"])
    assert not torch.equal(module.fc.weight, network.fc.weight)
    assert not train_one_epoch(module, x) & set(fixed)
    assert handler.edits == ()
    assert torch.equal(handler.get_module().fc.weight, network.fc.weight)
    with pytest.raises(ModelError, match=r"no parameters \['fc.wieght'\]; nearest: \['fc.weight'"):
        handler.get_module(fixed_layer_parameters=["fc.wieght"])
    assert all(parameter.requires_grad for parameter in handler.get_module().parameters())


def test_what_is_put_in_the_place_of_a_frozen_layer_is_not_frozen():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 50), nn.Dropout(), nn.BatchNorm1d(50, affine=False))

        def forward(self, x):
            return self.body(x)

    x = torch.randn(3, 4)
    handler = handle(Dropped(), x).freeze("body")
    assert not any(part.training for part in handler.get_module().train().body)
    handler.replace("body.1", nn.Dropout(0.9)).replace("body.2", nn.BatchNorm1d(50, affine=False))
    module = handler.get_module().train()
    assert [part.training for part in module.body] == [False, True, True]
    assert not module.body[0].weight.requires_grad
    handler.freeze("body.1")
    assert [part.training for part in handler.get_module().train().body] == [False, False, True]


def test_a_list_of_modules_is_frozen_up_to_its_last_module():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.fc = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 2)

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.fc(x)

    module = handle(Listed(), torch.randn(2, 4)).freeze(up_to="blocks").get_module()
    assert {name for name, p in module.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_torchscript_stays_frozen_through_edits_behind_it():
    network = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4))
    handler = handle(network, torch.ones(2, 4)).freeze("0").add_layer_top([nn.Linear(4, 2)]).randomize("1")
    module = handler.get_module()
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {"1.weight", "1.bias", "linear.weight", "linear.bias"}
    assert not getattr(module.train(), "0").training
