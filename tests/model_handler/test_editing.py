"""Editing from outside: every error leaves the handler and the user's module as they were."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, UnknownLayerError, UntraceableModelError
from tests.model_handler.networks import DataDependent, Residual, handle, images, snapshot


def test_lazy_layers_find_their_width():
    network, x, lazy = Residual(), images(), nn.LazyLinear(7)
    handler = handle(network, x).drop_layer_top(1).add_layer_top([lazy, nn.LazyBatchNorm1d(), nn.ReLU()])
    assert handler.layer_names[-3:] == ["linear", "batchnorm1d", "relu_2"]
    assert handler.get_module().linear.weight.shape == (7, 4)
    assert isinstance(lazy, nn.LazyLinear)  # the one given waits on
    with pytest.raises(ModelError, match="make the handler with example inputs"):
        handle(Residual()).add_layer_top(nn.LazyLinear(7))


def test_a_size_that_does_not_fit_names_both_shapes():
    network, x = Residual(), images()
    handler = handle(network, x)
    before = snapshot(network)
    with pytest.raises(ModelError, match=r"'linear', Linear\(in_features=9.*\(5, 3\)") as caught:
        handler.add_layer_top(nn.Linear(9, 2))
    assert "nothing was changed" in str(caught.value)
    with pytest.raises(ModelError, match=r"'linear_2'|'linear', Linear\(in_features=9.*\(5, 3\)"):
        handler.add_layer_top([nn.Linear(9, 2), nn.LazyLinear(2)])
    assert snapshot(network) == before
    assert (handler.edits, handler.layer_names[-1]) == ((), "fc")


def test_bad_additions_are_refused_before_anything_changes():
    network, head = Residual(), nn.Linear(3, 2)
    handler = handle(network, images())
    with pytest.raises(ModelError, match="name 'layer1' is taken"):
        handler.add_layer_top(("layer1", head))
    with pytest.raises(ModelError, match="name 'flatten' is taken"):
        handler.add_layer_top(("flatten", head))
    with pytest.raises(ModelError, match="name 'a' is taken"):
        handler.add_layer_top([("a", head), ("a", nn.ReLU())])
    with pytest.raises(ModelError, match=r"cannot be named 'a\.b'"):
        handler.add_layer_top(("a.b", head))
    with pytest.raises(ModelError, match="same Linear is given twice"):
        handler.add_layer_top([head, nn.ReLU(), head])
    with pytest.raises(ModelError, match="Linear is already in the network"):
        handler.add_layer_top(network.fc)
    with pytest.raises(ModelError, match=r"on cpu, 'linear' on meta"):
        handler.add_layer_top(nn.Linear(3, 2, device="meta"))
    with pytest.raises(TypeError, match="got 3"):
        handler.add_layer_top([3])
    with pytest.raises(ModelError, match="empty"):
        handler.add_layer_top([])
    assert handler.edits == ()
    handler.add_layer_top(head)
    with pytest.raises(ModelError, match="Linear is already in the network"):
        handler.add_layer_top(head)


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_stays_bit_identical_through_edits_and_failures(training):
    network, x = Residual().train(training), images()
    before = snapshot(network)
    handler = handle(network, x)
    handler.drop_layer_top(2).add_layer_top([nn.Flatten(), nn.LazyLinear(3), nn.Dropout()]).freeze(up_to="layer1")
    for fail in (lambda: handler.truncate("nowhere"), lambda: handler.drop_layer_top(99)):
        with pytest.raises(ModelError):
            fail()
    module = handler.get_module()
    assert all(part.training == training for part in (module.dropout, module.avgpool))
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    module(x).sum().backward()
    optimiser.step()
    assert snapshot(network) == before


def test_what_cannot_be_traced_says_where_and_what_still_works():
    handler = handle(DataDependent(), torch.randn(2, 4))
    for edit in (
        lambda: handler.truncate("stem"),
        lambda: handler.drop_layer_top(1),
        lambda: handler.add_layer_top(nn.ReLU()),
    ):
        with pytest.raises(UntraceableModelError, match=r"forward of DataDependent itself cannot be traced.*freeze"):
            edit()
    assert isinstance(handler.get_module(), DataDependent)


def test_bad_insertions_are_refused():
    handler = handle(Residual(), images())
    with pytest.raises(ModelError, match=r"layer 'linear', Linear.*failed on input of shape"):
        handler.insert_after("flatten", nn.Linear(9, 9))
    with pytest.raises(UnknownLayerError, match="'flaten'"):
        handler.insert_after("flaten", nn.ReLU())
    with pytest.raises(ModelError, match=r"'layer1.0.add' reads \['layer1.0.bn', 'relu'\]"):
        handler.insert_before("layer1.0.add", nn.ReLU())
    with pytest.raises(ModelError, match="only add_layer_top finds them"):
        handler.insert_before("fc", nn.LazyLinear(3))
    assert handler.edits == ()
