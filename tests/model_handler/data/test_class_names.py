"""The names that a dataset has for its classes, found behind what torch wraps around it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder

from model_handler import Features, ModelHandler
from model_handler.data import named_classes

NAMES = ("cat", "dog", "owl")


class Named(Dataset):
    """Rows of two numbers with labels 0, 1, 2 in turn, as torchvision's datasets have them."""

    def __init__(self, classes: Any = NAMES, target_transform: Any = None, n_rows: int = 6) -> None:
        self.classes, self.target_transform, self.n_rows = classes, target_transform, n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([row / 6, row % 3 - 1.0]), row % 3


@pytest.mark.parametrize(
    "data",
    [
        Named(),
        Named(list(NAMES)),
        Subset(Named(), [4, 2]),
        Subset(Subset(Named(), [4, 2]), [0]),
        random_split(Named(), [4, 2])[0],
        ConcatDataset([Named(), Subset(Named(), [0])]),
        DataLoader(Subset(Named(), [4, 2])),
    ],
    ids=["dataset", "list", "subset", "subset of one", "split", "joined", "loader"],
)
def test_names_are_found_behind_the_wrappers_of_torch(data: Any) -> None:
    assert named_classes(data) == NAMES


@pytest.mark.parametrize(
    "data",
    [
        Named(None),
        Named([]),
        Named([0, 1, 2]),
        Named("cat"),
        Named(target_transform=abs),
        Subset(Named(target_transform=abs), [0]),
        ConcatDataset([Named(), Named(["cat", "dog"])]),
        ConcatDataset([Named(), TensorDataset(torch.zeros(2, 2))]),
        TensorDataset(torch.zeros(2, 2)),
        np.zeros((2, 2)),
        "folder",
    ],
)
def test_what_has_no_names_or_not_these_has_none(data: Any) -> None:
    assert named_classes(data) is None


def test_folders_of_torchvision_name_their_classes(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / name / "0.png")
    assert named_classes(ImageFolder(tmp_path)) == NAMES
    assert named_classes(ImageFolder(tmp_path, target_transform=abs)) is None


def test_several_words_for_a_class_are_joined() -> None:
    assert named_classes(Named([("tench", "Tinca tinca"), ("goldfish",)])) == ("tench, Tinca tinca", "goldfish")


def test_features_keep_the_names_through_splitting_and_saving(tmp_path: Path) -> None:
    features = ModelHandler(nn.Linear(2, 2)).extract(DataLoader(Named()), ["linear"])
    for each in (features, features[:3], features.select(features.layer_names)):
        assert each.class_names == NAMES
    features.save(tmp_path / "x.safetensors")
    assert Features.load(tmp_path / "x.safetensors").class_names == NAMES
    Features(features.values, features.labels).save(tmp_path / "y.safetensors")
    assert Features.load(tmp_path / "y.safetensors").class_names is None
