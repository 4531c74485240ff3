"""The traps of the design, one test a trap: each was met in a library or a first version, and each stays closed."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import nn
from torchvision.models import resnet18

from model_handler import ModelError
from tests.model_handler.networks import (
    TREATMENTS,
    Convolutional,
    DataDependent,
    InPlace,
    Regularised,
    Residual,
    Shared,
    assert_rows,
    handle,
    hooked,
    images,
    output_of,
    snapshot,
    train_one_epoch,
)


class OwnDropout(nn.Module):
    """Drops out in its own forward, by function."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 40), nn.Linear(40, 2)

    def forward(self, x):
        return self.second(F.dropout(F.relu(self.first(x)), training=self.training))


def test_names_that_end_in_numbers_give_their_own_outputs():
    network, names, x = Convolutional(), ["conv_3", "conv_1", "conv_2"], images()
    wanted = hooked(network, (x,), names)
    features = handle(network).extract(x, names)
    assert features.layer_names == names
    for name in names:
        assert_rows(features, name, wanted[name])
        torch.testing.assert_close(output_of(handle(network, x).truncate(name), x), wanted[name])


def test_an_in_place_relu_does_not_overwrite_what_was_captured_before_it():
    network, x = resnet18(weights=None), images(2, height=64, width=64)
    names = ["bn1", "layer1", "layer1.0.bn2", "layer4.1.conv2", "avgpool"]
    features = handle(network).extract(x, names)
    network.eval()
    with torch.no_grad():
        bn1 = network.bn1(network.conv1(x))
        layer1 = network.layer1(network.maxpool(F.relu(bn1)))
    assert_rows(features, "bn1", bn1)
    assert_rows(features, "layer1", layer1)
    for name, wanted in hooked(network, (x,), names).items():
        assert_rows(features, name, wanted)


def test_in_place_operations_whose_result_is_unused_survive():
    network, x = InPlace(), torch.randn(3, 4)
    first, clamped = network.first(x).detach(), network.first(x).clamp(min=0).detach()
    second = network.second(clamped).detach()
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(1), x), second)
    torch.testing.assert_close(output_of(handle(network, x).truncate("second"), x), second)
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(2), x), clamped)
    torch.testing.assert_close(output_of(handle(network, x).truncate("first"), x), first)
    torch.testing.assert_close(
        output_of(handle(network, x).insert_after("second", nn.Identity()), x), network(x).detach()
    )
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_bottom(1), first), network(x).detach())
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_bottom(2), clamped), network(x).detach())


@pytest.mark.parametrize("make", [Regularised, OwnDropout])
def test_dropout_by_function_lives_in_train_mode_and_sleeps_in_evaluation(make):
    x = torch.randn(4, 4)
    for handler in (handle(make(), x).add_layer_top(nn.LazyLinear(3)), handle(make(), x).drop_layer_top(1)):
        module = handler.get_module().train()
        assert not torch.equal(module(x), module(x))
        module.eval()
        assert torch.equal(module(x), module(x))


@pytest.mark.parametrize("treat", TREATMENTS)
def test_what_is_frozen_stays_bit_identical_through_training_copies_and_files(treat):
    network, x = resnet18(weights=None), images(2, height=64, width=64)
    before = snapshot(network)
    handler = handle(network, x).drop_layer_top(1).add_layer_top([nn.LazyLinear(4)]).freeze(up_to="layer3")
    changed = train_one_epoch(treat(handler.get_module()), x)
    assert {key.partition(".")[0] for key in changed} == {"layer4", "linear"}
    assert "layer4.1.bn2.running_mean" in changed
    assert snapshot(network) == before


def test_exact_names_only_so_that_fc1_never_freezes_fc10():
    network = nn.Sequential()
    for name in ("fc1", "fc10", "fc100"):
        network.add_module(name, nn.Linear(4, 4))
    module = handle(network).freeze("fc1").get_module()
    assert train_one_epoch(module, torch.randn(3, 4)) == {"fc10.weight", "fc10.bias", "fc100.weight", "fc100.bias"}


def test_shared_modules_and_tied_weights_are_edited_under_all_their_names(tmp_path):
    network, x = Shared(), torch.randn(3, 4)
    network.b.weight = network.a.weight
    handler = handle(network, x)
    assert handler.get_layer_parameters(["a", "b"]) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    for edit in (handler.freeze, handler.randomize, lambda name: handler.replace(name, nn.Linear(4, 4))):
        with pytest.raises(ModelError, match=r"'a.weight' is tied to 'b.weight'"):
            edit("a")
    assert not handler.freeze("relu").get_module().train().alias.training
    edited = handler.freeze(["a", "b"]).drop_layer_top(1).add_layer_top(nn.Linear(4, 2))
    module, again = edited.get_module(), edited.get_module()
    assert not any(parameter.requires_grad for parameter in (module.a.weight, module.b.weight, module.b.bias))
    with torch.no_grad():
        module.a.weight.fill_(0.5)
    save_model(module, tmp_path / "module.safetensors")
    load_model(again, tmp_path / "module.safetensors")
    assert again.a.weight is again.b.weight
    assert again.alias is again.relu
    assert torch.equal(again.b.weight, module.a.weight)


@pytest.mark.parametrize("training", [True, False])
def test_a_failed_edit_or_trace_leaves_the_users_model_as_it_was(training):
    class Counting(DataDependent):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            self.stem.last = x
            return super().forward(x)

    network = Counting().train(training)
    before = snapshot(network)
    handler = handle(network)
    with pytest.raises(ModelError):
        handler.insert_after("stem", nn.ReLU())
    assert snapshot(network) == before
    network, x = Residual().train(training), images()
    network.layer1[0].eval()
    network.conv1.requires_grad_(False)
    before = snapshot(network)
    handler = handle(network, x)
    for edit in (
        lambda: handler.add_layer_top(nn.Linear(9, 9)),
        lambda: handler.replace("layer1.0.conv", nn.Conv2d(9, 9, 1)),
        lambda: handler.insert_before("fc", nn.LazyConv2d(3, 3)),
        lambda: handler.drop_layer_bottom(4),
    ):
        with pytest.raises(ModelError):
            edit()
    assert handler.edits == ()
    assert snapshot(network) == before
