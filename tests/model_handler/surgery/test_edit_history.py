"""History: edits as they were written, undone one by one, on the weights that the source holds now."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError
from model_handler.extraction.engine import NETWORK_LOCK
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


def test_an_added_module_that_was_taken_back_can_be_added_again():
    network, x, head = Residual(), images(), nn.Linear(3, 2)
    handler = handle(network, x).add_layer_top(head).undo().add_layer_top(("head", head))
    assert handler.layer_names[-1] == "head"
    with pytest.raises(ModelError, match="Linear is already in the network"):
        handler.add_layer_top(head)


def test_undo_returns_to_sizes_inputs_and_what_was_frozen():
    network, x = Residual(), images()
    handler = handle(network, x)
    states = [(handler.layer_names, handler.layers)]
    for edit in (
        lambda: handler.freeze("bn1"),
        lambda: handler.drop_layer_bottom(1),
        lambda: handler.rename("layer1", "stage"),
        lambda: handler.replace("fc", nn.LazyLinear(7)),
        lambda: handler.truncate("stage.0"),
    ):
        edit()
        states.append((handler.layer_names, handler.layers))
    while handler.edits:
        assert (handler.layer_names, handler.layers) == states.pop()
        handler.undo()
    assert (handler.layer_names, handler.layers) == states.pop()


def test_only_the_network_of_now_is_kept_ready_to_run():
    network, x = Residual(), images()
    handler = handle(network, x)
    wanted = handler.extract(x, ["layer1", "fc"])
    ready = weakref.ref(handler._engine.workspace.module)
    handler.freeze("bn1")
    assert ready() is not None
    handler.truncate("layer1")
    gc.collect()
    assert ready() is None
    with torch.no_grad():
        network.fc.bias.add_(1)
    found = handler.undo().extract(x, ["layer1", "fc"])
    np.testing.assert_array_equal(found.values["layer1"], wanted.values["layer1"])
    np.testing.assert_allclose(found.values["fc"], wanted.values["fc"] + 1, atol=1e-6)


@pytest.mark.parametrize(
    "work",
    [
        lambda handler: handler.get_module(),
        lambda handler: handler.truncate("layer1"),
        lambda handler: handler.add_layer_top(nn.LazyLinear(2)),
        lambda handler: handler.replace("fc", nn.LazyLinear(2)),
        lambda handler: handler.drop_layer_bottom(2),
    ],
)
def test_nothing_runs_while_another_thread_traces(work):
    handler = handle(Residual(), images())
    worker = threading.Thread(target=work, args=(handler,), daemon=True)
    with NETWORK_LOCK:
        worker.start()
        worker.join(timeout=0.3)
        assert worker.is_alive()
        assert handler.edits == ()
    worker.join(timeout=60)
    assert not worker.is_alive()
