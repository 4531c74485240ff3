"""Renaming: the new name is everywhere, what is computed stays."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler import ModelError, UnknownLayerError, UntraceableModelError
from tests.model_handler.networks import (
    Attention,
    DataDependent,
    Regularised,
    Residual,
    Shared,
    handle,
    images,
    output_of,
    saved_and_loaded,
    snapshot,
)


@pytest.mark.parametrize(
    ("name", "given", "new"),
    [
        ("fc", "head", "head"),
        ("layer1.1.conv", "last", "layer1.1.last"),
        ("layer1.1.conv", "layer1.1.last", "layer1.1.last"),
        ("layer1", "stage1", "stage1"),
        ("layer1.0", "first", "layer1.first"),
    ],
)
def test_layers_keys_and_containers_follow_a_new_name(name, given, new):
    network, x = Residual(), images()
    before = snapshot(network)
    handler = handle(network, x)

    def renamed(names):
        return [
            new + old_name[len(name) :] if old_name == name or old_name.startswith(f"{name}.") else old_name
            for old_name in names
        ]

    wanted, names = output_of(handler, x), handler.layer_names
    handler.rename(name, given)
    module = handler.get_module()
    assert handler.layer_names == renamed(names)
    assert list(module.state_dict()) == renamed(network.state_dict())
    torch.testing.assert_close(output_of(handler, x), wanted)
    torch.testing.assert_close(saved_and_loaded(module).eval()(x).detach(), wanted)
    assert handler.edits == (f"rename({name!r}, {given!r})",)
    features = handler.extract(x, [new])
    torch.testing.assert_close(torch.tensor(features.matrix), torch.tensor(handle(network).extract(x, [name]).matrix))
    assert snapshot(network) == before
    assert handler.undo().layer_names == names


def test_what_is_frozen_stays_so_under_its_new_name():
    handler = handle(Residual(), images()).freeze(["fc", "layer1.0"]).rename("fc", "head").rename("layer1", "stage")
    module = handler.get_module().train()
    frozen = {name.rpartition(".")[0] for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == {"head", "stage.0.conv", "stage.0.bn"}
    assert not module.stage[0].bn.training
    assert all(p.requires_grad for p in handler.unfreeze("stage").get_module().stage.parameters())


def test_only_the_name_given_changes_of_a_module_with_several():
    network, x = Shared(), torch.randn(3, 4)
    handler = handle(network, x).rename("alias", "other")
    module = handler.get_module()
    assert module.other is module.relu
    assert not hasattr(module, "alias")
    assert handler.layer_names == ["a", "relu", "b", "relu@1", "sub", "relu@2"]
    handler.rename("relu", "act")
    assert handler.layer_names == ["a", "act", "b", "act@1", "sub", "act@2"]
    torch.testing.assert_close(output_of(handler, x), network(x).detach())


def test_a_module_of_a_container_with_several_names_is_renamed_under_all():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Sequential(nn.Linear(4, 4))
            self.right = self.left

        def forward(self, x):
            return self.right(F.relu(self.left(x)))

    network, x = Twice(), torch.randn(3, 4)
    handler = handle(network, x).rename("right.0", "only")
    assert set(handler.get_module().state_dict()) == {
        f"{side}.only.{key}" for side in ("left", "right") for key in ("weight", "bias")
    }
    torch.testing.assert_close(output_of(handler, x), network(x).detach())


def test_operations_of_a_renamed_module_and_of_the_same_name_are_told_apart():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.fc = nn.ReLU(), nn.Linear(4, 4)

        def forward(self, x):
            return F.relu(self.fc(self.relu(x)))

    handler = handle(Clash(), torch.randn(2, 4))
    assert handler.layer_names == ["relu", "fc", "relu@1"]
    assert handler.rename("relu", "act").layer_names == ["act", "fc", "relu@1"]


@pytest.mark.parametrize(
    ("network", "name", "new", "error", "message"),
    [
        (Residual, "layre1", "stage", UnknownLayerError, r"no layer is named 'layre1'; nearest: \['layer1'"),
        (Residual, "flatten", "head", ModelError, "'flatten' is an operation"),
        (Residual, "fc", "conv1", ModelError, "the name 'conv1' is taken in the network"),
        (Residual, "fc", "forward", ModelError, "the name 'forward' is taken"),
        (Residual, "fc", "flatten", ModelError, "the name 'flatten' is taken"),
        (Residual, "layer1.0.conv", "bn", ModelError, "the name 'bn' is taken in 'layer1.0'"),
        (Residual, "layer1.0.conv", "layer2.0.c", ModelError, "cannot be named 'layer2.0.c'.*or 'layer1.0.c'"),
        (Residual, "fc", "a@1", ModelError, "cannot be named 'a@1'"),
        (Residual, "fc", "a[0]", ModelError, "cannot be named"),
        (Residual, "fc", 'a"b', ModelError, "cannot be named"),
        (Residual, "fc", "a\nb", ModelError, "cannot be named"),
        (Residual, "fc", "", ModelError, "cannot be named ''"),
        (Residual, "fc", 3, TypeError, "must be a text, got 3"),
        (Shared, "relu@1", "other", ModelError, "'relu@1' is one call of a module"),
        (Regularised, "block.linear", "l", ModelError, "'block.linear' is inside 'block'"),
        (Attention, "attention.out_proj", "o", ModelError, "'attention.out_proj' is inside 'attention'"),
        (DataDependent, "stem", "s", UntraceableModelError, "DataDependent itself cannot be traced.*truncate"),
    ],
)
def test_names_that_cannot_be_are_refused(network, name, new, error, message):
    source = network()
    before = snapshot(source)
    handler = handle(source)
    with pytest.raises(error, match=message):
        handler.rename(name, new)
    assert handler.edits == ()
    assert snapshot(source) == before
