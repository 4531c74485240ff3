"""The layer that fails is named, with what it was given."""

import pytest
import torch
from torch import fx, nn

from model_handler.errors import ModelError
from model_handler.extraction.failures import explain_failure, explain_graph_failure
from model_handler.graph.tracing import trace
from model_handler.network.inputs import default_input_names
from tests.model_handler.networks import Residual, images

FIRST = RuntimeError("first")


def graph_of(network):
    return fx.GraphModule(network, trace(network, default_input_names(network)).graph)


def test_a_failing_layer_is_named_with_its_input():
    pattern = r"layer 'layer1.0.conv', Conv2d\(.*\), failed on input of shape \(1, 5, 4, 4\)"
    network = Residual().eval()
    network.conv1 = nn.Conv2d(3, 5, 1)
    network.bn1 = nn.BatchNorm2d(5).eval()
    with pytest.raises(ModelError, match=pattern):
        explain_graph_failure(graph_of(network), {"x": images(1, height=4, width=4)}, FIRST, spared=nn.Dropout)
    with pytest.raises(ModelError, match=pattern):
        explain_failure(network, {"x": images(1, height=4, width=4)}, FIRST)


def test_an_operation_that_fails_is_not_blamed_on_the_layer_before():
    class Mismatched(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 5)

        def forward(self, x):
            return self.a(x) + self.b(x)

    network = nn.Sequential(Mismatched())
    with pytest.raises(ModelError, match=r"layer 'add', add, failed on input of shape \(2, 4\), \(2, 5\)"):
        explain_graph_failure(graph_of(network), {"input": torch.randn(2, 3)}, FIRST, spared=nn.Dropout)
    with pytest.raises(ModelError, match=r"layer '0', Mismatched, failed on input of shape \(2, 3\): The size of"):
        explain_failure(network, {"input": torch.randn(2, 3)}, FIRST)


def test_a_module_that_is_no_layer_is_not_blamed():
    network = nn.Sequential(nn.Linear(3, 2))
    assert explain_graph_failure(graph_of(network), {"input": torch.randn(2, 4)}, FIRST, spared=nn.Linear) is None
    assert explain_failure(nn.Linear(3, 2), {"input": torch.randn(2, 4)}, FIRST) is None
