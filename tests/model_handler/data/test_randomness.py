"""Random transforms are found in datasets, behind loaders and subsets, by their names."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import transforms
from torchvision.transforms import v2

from model_handler.data import random_part

FLIP = transforms.Compose([transforms.ToTensor(), transforms.RandomHorizontalFlip()])


def dataset(transform):
    made = TensorDataset(torch.zeros(4, 3))
    made.transform = transform
    return made


@pytest.mark.parametrize(
    "data",
    [
        FLIP,
        dataset(FLIP),
        Subset(dataset(FLIP), [0]),
        DataLoader(Subset(dataset(FLIP), [0])),
        dataset(nn.Sequential(v2.Identity(), v2.RandomHorizontalFlip())),
        dataset({"train": FLIP}),
    ],
)
def test_a_random_transform_is_found_wherever_it_is(data):
    assert random_part(data) == "RandomHorizontalFlip"


def test_other_things_are_not_random_and_circles_end():
    circle = dataset(transforms.ToTensor())
    circle.itself = circle
    randomly_named = type("RandomThing", (), {})()
    for data in (circle, dataset(transforms.Resize(4)), randomly_named, torch.zeros(3), "Random", None, [1, 2]):
        assert random_part(data) == ""
