"""History: edits as they were written, undone one by one, on the weights that the source holds now."""

import pytest
import torch
from torch import nn

from model_handler import ModelError
from tests.model_handler.networks import Residual, handle, hooked, images, output_of


def test_edits_read_as_they_were_written_and_are_undone_one_by_one():
    network, x = Residual(), images()
    handler = handle(network, x)
    names = handler.layer_names
    handler.drop_layer_top(1).add_layer_top(("fc", nn.Linear(4, 2))).freeze(up_to="layer1")
    assert handler.edits[0] == "drop_layer_top(1)"
    assert handler.edits[1].startswith("add_layer_top([('fc', Linear(in_features=4")
    assert handler.edits[2] == "freeze(up_to='layer1')"
    assert handler.undo().undo().edits == ("drop_layer_top(1)",)
    assert handler.layer_names == names[:-1]
    handler.undo()
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["fc"])["fc"])
    assert all(layer.trainable for layer in handler.layers if layer.n_parameters)
    with pytest.raises(ModelError, match="no edit to undo"):
        handler.undo()


def test_training_of_the_source_is_seen_by_an_edited_handler():
    network, x = Residual(), images()
    handler = handle(network, x).truncate(at="layer1")
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["layer1"])["layer1"])
    rows = handler.extract(x, ["layer1"]).matrix
    torch.testing.assert_close(torch.tensor(rows), hooked(network, (x,), ["layer1"])["layer1"].flatten(1))
