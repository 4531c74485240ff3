"""Randomizing: what is named is reinitialised, in tensors of its own; everything else is shared."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, UnknownLayerError
from tests.model_handler.networks import DataDependent, Residual, Shared, handle, images, snapshot


def changed(module, network):
    after, before = module.state_dict(), network.state_dict()
    return {key for key in after if not torch.equal(after[key], before[key])}


def test_only_what_is_named_changes_and_never_in_the_users_module():
    network, x = Residual(), images()
    network(x)  # statistics of its own
    before = snapshot(network)
    handler = handle(network, x).randomize(["layer1.0", "fc"], random_state=0)
    names = changed(handler.get_module(), network)
    assert {key.rpartition(".")[0] for key in names} == {"layer1.0.conv", "layer1.0.bn", "fc"}
    assert {"layer1.0.bn.running_mean", "layer1.0.conv.weight", "fc.bias"} <= names
    assert snapshot(network) == before
    assert handler.edits == ("randomize(['layer1.0', 'fc'], random_state=0)",)
    with torch.no_grad():
        wanted = handler.get_module().eval()(x)
    torch.testing.assert_close(torch.tensor(handler.extract(x, ["fc"]).matrix), wanted)
    assert not changed(handler.undo().get_module(), network)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone():
    network = Residual()
    state = torch.get_rng_state()
    first, second = (handle(network).randomize("fc", random_state=3).get_module() for _ in range(2))
    assert not changed(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert changed(handle(network).randomize("fc", random_state=4).get_module(), first)
    torch.manual_seed(3)
    alone = nn.Linear(4, 3)
    assert torch.equal(alone.weight, first.fc.weight)


def test_randomizing_joins_other_edits_and_untraceable_networks():
    x = images()
    handler = handle(Residual(), x).truncate("avgpool").randomize("layer1", random_state=0).drop_layer_top(1)
    assert handler.get_module().eval()(x).shape == (5, 4, 6, 6)
    network = DataDependent()
    assert changed(handle(network).randomize("block").get_module(), network) == {"block.0.weight", "block.0.bias"}


def test_an_initialiser_of_ones_own():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.factor

    network = nn.Sequential(nn.Linear(3, 3), Scale())
    with pytest.raises(ModelError, match=r"\['1'\] have no reset_parameters.*initializer="):
        handle(network).randomize("1")

    def to_zero(part):
        nn.init.zeros_(part.factor)

    handler = handle(network).randomize("1", initializer=to_zero)
    assert handler.edits == ("randomize('1', initializer=to_zero)",)
    module = handler.get_module()
    assert not module[1].factor.any()
    assert network[1].factor.all()


def test_what_cannot_be_randomized_is_refused():
    network = Shared()
    network.b.weight = network.a.weight
    handler = handle(network)
    with pytest.raises(ModelError, match="nothing to randomize"):
        handler.randomize("relu")
    with pytest.raises(UnknownLayerError, match="no layer is named 'c'"):
        handler.randomize(["a", "c"])
    with pytest.raises(ModelError, match="tied"):
        handler.randomize("a")
    module = handler.randomize(["a", "b"]).get_module()
    assert module.a.weight is module.b.weight
    assert not torch.equal(module.a.weight, network.a.weight)


def test_a_seed_or_an_initialiser_that_cannot_serve_is_refused_and_nothing_changes():
    def fails(module):
        raise RuntimeError("no such gain")

    network = Residual()
    before = snapshot(network)
    handler = handle(network)
    for options, message in [
        ({"random_state": "a"}, "random_state must be a whole number of at least 0 or None, got 'a'"),
        ({"random_state": -1}, "got -1"),
        ({"random_state": True}, "random_state must be a whole number of at least 0 or None, got True"),
        ({"initializer": "zeros"}, "initializer must be a function of a module, got 'zeros'"),
        ({"initializer": fails}, "'fc' cannot be randomized: no such gain"),
    ]:
        with pytest.raises(ModelError, match=message):
            handler.randomize("fc", **options)
    assert handler.edits == ()
    assert snapshot(network) == before
