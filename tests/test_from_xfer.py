"""What `docs/from_xfer.md` says of this side: names, defaults, type words and the traps of load."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import repurpose
from model_handler import ModelError, ModelHandler
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, NeuralNetworkRandomFreezeRepurposer, load
from repurpose.parameters import constructor_parameters
from tests.repurpose.examples import blobs, lr, small_network

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "from_xfer.md").read_text()


class Words(nn.Module):
    """A layer for each of the words that are no module's class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lrn, self.softmax = nn.Conv2d(3, 3, 1), nn.LocalResponseNorm(2), nn.Softmax(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lrn(self.conv(x))
        y += x
        return self.softmax(torch.cat([y, x], 1).mean((2, 3)))


def test_the_readme_leads_to_the_page_and_the_page_to_parts_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "(docs/from_xfer.md)" in readme
    parts = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", readme, re.MULTILINE)}
    assert set(re.findall(r"\.\./README\.md#([\w-]+)", PAGE)) <= parts


def test_the_names_that_are_said_to_be_the_same_are_there() -> None:
    names = (
        "layer_names get_layer_type get_layer_names_matching_type get_layer_parameters get_layer_output visualize_net"
    )
    for name in names.split():
        assert f"`{name}`" in PAGE
        assert hasattr(ModelHandler, name)
    for name in ("NeuralNetworkFineTuneRepurposer", "NeuralNetworkRandomFreezeRepurposer", "BnnRepurposer"):
        assert f"`{name}" in PAGE or f"### {name}" in PAGE
        assert hasattr(repurpose, name)


def test_the_defaults_of_the_two_network_classes_are_those_of_the_page() -> None:
    defaults = {
        name: each.default for name, each in constructor_parameters(NeuralNetworkRandomFreezeRepurposer).items()
    }
    for name in ("optimizer", "num_epochs", "batch_size", "num_layers_to_drop"):
        shown = f'"{defaults[name]}"' if isinstance(defaults[name], str) else str(defaults[name])
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |") and "Xfer" not in line[:12])
        assert f"`{shown}`" in row.split("|")[3]
    assert (defaults["target_class_count"], defaults["fixed_layers"], defaults["random_layers"]) == (None, (), ())
    X, y = blobs(12)
    table = NeuralNetworkFineTuneRepurposer(small_network(), "2", optimizer="sgd").parameter_groups(X, y)
    assert {group.name: group.learning_rate for group in table} == {"new": 1e-3, "transferred": pytest.approx(1e-4)}


def test_xfers_words_find_what_the_page_says_and_types_are_told_by_class_or_operation() -> None:
    handler = ModelHandler(Words(), torch.zeros(2, 3, 4, 4))
    found = {"Convolution": "conv", "LRN": "lrn", "_Plus": "add", "Concat": "cat", "mean": "mean"}
    for word, name in {**found, "SoftmaxOutput": "softmax"}.items():
        assert handler.get_layer_names_matching_type(word) == [name]
    assert [handler.get_layer_type(name) for name in ("conv", "add")] == ["Conv2d", "add"]
    for word in ("SVMOutput", "Data"):
        with pytest.raises(ModelError, match=f"there is no layer type '{word}'"):
            handler.get_layer_names_matching_type(word)


def test_data_is_called_data_and_a_features_has_what_the_page_says() -> None:
    X, y = blobs(12)
    repurposer = LrRepurposer(small_network(), ["2", "1"], c=1.0)
    features = repurposer.get_features_from_source_model(data=(X, y))
    assert features.matrix.shape == (12, 11)
    assert {name: len(columns) for name, columns in features.indices_per_layer.items()} == {"2": 5, "1": 6}
    assert np.array_equal(features.labels, y)
    labels = repurposer.repurpose(data=(X, y)).predict_label(data=X)
    assert np.array_equal(labels, repurposer.predict_label(features))


def test_a_directory_as_the_second_argument_of_load_or_save_is_an_error(tmp_path: Path) -> None:
    repurposer = lr().repurpose(*blobs(12))
    with pytest.raises(TypeError):
        repurposer.save_repurposer("name", tmp_path)
    repurposer.save_repurposer(tmp_path / "name")
    with pytest.raises(ValueError, match=r"there is no directory .* with a network in it"):
        load(tmp_path / "name", str(tmp_path))
