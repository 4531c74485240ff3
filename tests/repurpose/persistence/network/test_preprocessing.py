from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms

from model_handler import load_source
from model_handler.files.canonical_json import canonical
from repurpose.persistence.network.preprocessing import describe_transform, transform_differences

STEPS = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]


def scaled(image: Any) -> Any:
    return image


def test_sizes_modes_and_means_are_plain_data() -> None:
    described = describe_transform(load_source("torchvision/squeezenet1_1", pretrained=False).transform)
    expected = {
        "step": "ImageClassification",
        "crop_size": [224],
        "resize_size": [256],
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert expected.items() <= described.items()
    lite = describe_transform(load_source("efficientnet-lite0", pretrained=False).transform)["transforms"]
    assert lite[0] == {"step": "_Resize", "size": 256, "to_enlarge": "bilinear", "to_shrink": "bicubic"}
    assert lite[3]["mean"] == [127 / 255] * 3


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/lcnet_035", "efficientnet-lite0"])
def test_the_same_name_gives_the_same_data_each_time(name: str) -> None:
    first, second = (describe_transform(load_source(name, pretrained=False).transform) for _ in range(2))
    assert canonical(first) == canonical(second)
    assert transform_differences(first, second) == []


def test_what_differs_is_named_with_both_values() -> None:
    saved = describe_transform(transforms.Compose(STEPS))
    other = [transforms.Resize(224, transforms.InterpolationMode.BICUBIC), *STEPS[1:]]
    assert transform_differences(saved, describe_transform(transforms.Compose(other))) == [
        "transforms.0.size is 224, saved 256",
        "transforms.0.interpolation is bicubic, saved bilinear",
    ]
    shorter = describe_transform(transforms.Compose(STEPS[1:]))
    said = "transforms is a CenterCrop, a ToTensor, saved a Resize, a CenterCrop, a ToTensor"
    assert transform_differences(saved, shorter) == [said]
    assert transform_differences(saved, None) == ["it is None, saved a Compose"]
    assert transform_differences(saved, describe_transform(scaled)) == ["it is a scaled, saved a Compose"]


def test_a_setting_that_one_version_of_a_library_lacks_is_no_difference() -> None:
    saved = describe_transform(transforms.Resize(256))
    without = {name: value for name, value in saved.items() if name != "antialias"}
    assert transform_differences(without, saved) == transform_differences(saved, without) == []


class Mode(Enum):
    FAST = "fast"


class Odd:
    """Holds what JSON has no word for."""

    def __init__(self) -> None:
        self.mode, self.scale, self.weights = Mode.FAST, np.float32(0.5), torch.zeros(8, 9)
        self.limits, self.where, self._cache = float("inf"), torch.device("cpu"), [object()]
        self.inner = self

    def __call__(self, image: Any) -> Any:
        return image


def test_any_callable_becomes_data_without_its_memory_address() -> None:
    described = describe_transform(Odd())
    assert described["mode"] == "fast"
    assert (described["scale"], described["limits"], described["weights"]) == (0.5, "inf", "(8, 9) numbers")
    assert "_cache" not in described
    chain = nn.Sequential(nn.Identity(), transforms.Normalize([0.5], [0.25]))
    for transform in (Odd(), Odd().__call__, partial(scaled, size=3), chain, transforms.Lambda(lambda image: image)):
        assert " at 0x" not in canonical(describe_transform(transform))
    assert describe_transform(chain)["1"]["std"] == [0.25]
    assert describe_transform(partial(scaled, size=3))["options"] == {"size": 3}
