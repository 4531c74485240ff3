from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import ToTensor

from model_handler import Features, ImageFolderData, ModelError
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.data.labelled_data import given_labels, refuse_unlabelled, with_labels


def test_without_y_the_data_stay_as_they_are() -> None:
    data = object()
    assert with_labels(data, None) is data


def test_y_replaces_the_labels_of_features() -> None:
    features = with_labels(Features({"0": np.zeros((2, 1))}, ["a", "b"]), ["c", "d"])
    assert features.labels.tolist() == ["c", "d"]
    assert given_labels(features).tolist() == ["c", "d"]


@pytest.mark.parametrize("data", [DataLoader([1]), TensorDataset(torch.zeros(2)), "folder"])
def test_y_beside_data_with_an_order_of_its_own_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=f"y cannot stand beside a {type(data).__name__}"):
        with_labels(data, [0, 1])


def test_labels_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="the labels came twice"):
        with_labels((np.zeros((2, 1)), [0, 1]), [0, 1])


def test_labels_of_another_length_are_refused_with_both_lengths() -> None:
    for data in (np.zeros((3, 1)), torch.zeros(3, 1), Features({"0": np.zeros((3, 1))}), [[1.0], [2.0], [3.0]]):
        with pytest.raises(ValueError, match="3 rows and y has 2 labels"):
            with_labels(data, [0, 1])


def test_inputs_of_several_parts_are_taken_out_of_their_wrapping() -> None:
    parts = (np.zeros((2, 1)), np.ones((2, 1)))
    assert with_labels((parts,), [0, 1]) == (parts, [0, 1])
    assert given_labels((parts, [0, 1])) == [0, 1]
    assert given_labels((parts,)) is None
    assert given_labels({"a": parts[0], "labels": [0, 1]}) == [0, 1]


def test_the_path_of_a_folder_becomes_the_folder(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "1.png")
    assert isinstance(with_labels(str(tmp_path), None), ImageFolderData)
    assert with_labels("nowhere", None) == "nowhere"


@pytest.mark.parametrize("key", ["label", "target", "y", "class", "Labels"])
def test_a_dict_without_its_labels_names_their_key(key: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^it needs them: .* key 'labels', and it has \['x', '{key}'\]; rename '{key}'"
    ):
        refuse_unlabelled({"x": np.zeros((2, 1)), key: [0, 1]}, "it needs them")
    refuse_unlabelled({"x": np.zeros((2, 1)), key: [0, 1], "labels": [0, 1]}, "it needs them")


class TestNothingIsReadOfDataWithoutLabels:
    """Neither an image nor the network is needed to know that a flat folder has no labels."""

    @pytest.fixture
    def flat(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for number in range(3):
            Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was read"))
        return tmp_path

    def test_in_training(self, flat: Path) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        methods = (
            LrRepurposer(network, ["0"], transform=ToTensor()),
            LrRepurposer(network, "auto", transform=ToTensor()),
            NeuralNetworkFineTuneRepurposer(network, "0", transform=ToTensor(), num_epochs=1),
        )
        for method in methods:
            for data in (str(flat), flat, ImageFolderData(flat)):
                with pytest.raises(
                    ValueError, match=r"the 3 images in .* lie in no sub-folder.* one sub-folder a class"
                ):
                    method.repurpose(data)
            with pytest.raises(ValueError, match="is a single file without a label"):
                method.repurpose(flat / "0.png")

    def test_where_there_is_one_class(self, flat: Path) -> None:
        (flat / "cat").mkdir()
        for file in flat.glob("*.png"):
            file.rename(flat / "cat" / file.name)
        method = LrRepurposer(nn.Flatten(), [""], transform=ToTensor())
        with pytest.raises(ValueError, match="the labels hold 1 class: 'cat'"):
            method.repurpose(flat)

    def test_where_labels_are_asked_for_after_training(self, flat: Path) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        rows = torch.randn(6, 3, 4, 4)
        method = LrRepurposer(network, ["0"], transform=ToTensor(), c=1.0).repurpose((rows, [0, 1] * 3))
        for ask in (method.score, method.evaluate, method.calibrate, method.conformalize):
            with pytest.raises(ValueError, match=r"needs the true labels: the 3 images in"):
                ask(flat)
        tuning = NeuralNetworkFineTuneRepurposer(network, "0", transform=ToTensor(), num_epochs=1)
        with pytest.raises(ValueError, match="validation_data needs one label a row: the 3 images in"):
            tuning.repurpose((rows, [0, 1] * 3), validation_data=flat)


class Reading(nn.Module):
    """A network that takes a dict by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize("method", ["head", "network"])
def test_a_label_under_another_key_names_the_right_one(method: str) -> None:
    x, y = torch.randn(6, 1), torch.tensor([0, 1] * 3)
    repurposer: Any = LrRepurposer(Reading(), ["layer"], c=1.0)
    if method == "network":
        repurposer = NeuralNetworkFineTuneRepurposer(Reading(), "layer", num_epochs=1)
    with pytest.raises(ValueError, match=r"key 'labels'.*rename 'label'"):
        repurposer.repurpose({"x": x, "label": y})
    repurposer.repurpose({"x": x, "labels": y})
    for ask in (repurposer.predict_label, repurposer.predict_probability):
        with pytest.raises((ValueError, ModelError), match=r"'label'.* if .* is the label, its key is 'labels'"):
            ask({"x": x, "label": y})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_beside_labels_is_told_what_to_give() -> None:
    nested = torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])
    with pytest.raises(TypeError, match="to_padded_tensor"):
        LrRepurposer(Reading(), ["layer"]).repurpose(nested, [0, 1])
