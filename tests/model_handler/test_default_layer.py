"""The layer taken where none is named."""

import pytest
from torch import nn

from model_handler import ModelHandler
from model_handler.default_layer import default_layer
from model_handler.errors import text_for_shell


def test_it_is_the_one_that_the_classifier_reads() -> None:
    head = [nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1)]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 8), *head)
    assert default_layer(ModelHandler(network)) == "3"


def test_without_a_linear_layer_at_the_end_layers_are_listed_in_the_words_of_python_and_of_the_command_line() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"last layers are \['0', '1'\]; .*feature_layer_names=\['1'\]") as caught:
        default_layer(ModelHandler(network))
    assert "--layer 1 (`repurpose layers Sequential` lists all)" in text_for_shell(caught.value)
    assert "feature_layer_names" not in text_for_shell(caught.value)
    with pytest.raises(ValueError, match=r"one or several: layers=\['1'\]"):
        default_layer(ModelHandler(network), "layers")
