"""What is published of a source is found by its name, and NaN where nothing is."""

import math

import pytest

from repurpose.selection.ranking.published_accuracy import imagenet_accuracy


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("efficientnet-lite1", 76.7),
        ("efficientnet-lite0-bicubic", 75.1),
        ("torchvision/resnet50", 80.858),  # by torchvision's table of weights: IMAGENET1K_V2
        ("torchvision/resnet50:IMAGENET1K_V1", 76.13),
    ],
)
def test_the_accuracy_is_that_of_the_table_of_weights(name: str, accuracy: float) -> None:
    assert imagenet_accuracy(name) == accuracy


@pytest.mark.parametrize("name", ["Sequential", "timm/resnet18", "torchvision/resnet51", "torchvision/resnet50:V9"])
def test_where_nothing_is_known_there_is_none(name: str) -> None:
    assert math.isnan(imagenet_accuracy(name))
