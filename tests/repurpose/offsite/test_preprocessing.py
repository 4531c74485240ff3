"""Preprocessing is made again of its description where its steps are known, and never as another one."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

from model_handler import load_source
from repurpose.offsite.preprocessing import rebuilt_transform
from repurpose.persistence.network.preprocessing import describe_transform

BICUBIC = transforms.InterpolationMode.BICUBIC
KNOWN = {
    "preset": ImageClassification(crop_size=24, resize_size=28, mean=(0.1, 0.2, 0.3), interpolation=BICUBIC),
    "composed": transforms.Compose(
        [
            transforms.Grayscale(3),
            transforms.Resize([20, 30], BICUBIC),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    ),
    "bytes": transforms.Compose([transforms.Resize(20, max_size=40), transforms.PILToTensor()]),
}


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", KNOWN)
def test_a_transform_of_known_steps_comes_back_and_computes_the_same(name: str) -> None:
    again = rebuilt_transform(describe_transform(KNOWN[name]))
    assert again is not None
    assert torch.equal(again(picture()), KNOWN[name](picture()))


@pytest.mark.parametrize("name", ["efficientnet-lite0", "torchvision/squeezenet1_1", "timm/resnet18"])
def test_so_do_those_of_the_sources_that_have_a_name(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    transform = load_source(name, pretrained=False).transform
    assert transform is not None
    again = rebuilt_transform(describe_transform(transform))
    assert again is not None
    assert torch.equal(again(picture()), transform(picture()))


@pytest.mark.parametrize(
    "transform",
    [
        lambda image: image,
        transforms.Compose([transforms.ToTensor(), lambda tensor: 2 * tensor]),
        transforms.Compose([transforms.RandomCrop(8), transforms.ToTensor()]),
        transforms.CenterCrop((8, 8_000_000)),
    ],
)
def test_any_other_is_none(transform: Any) -> None:
    assert rebuilt_transform(describe_transform(transform)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"size": 10**9},
        {"size": True},
        {"size": [4, "4"]},
        {"interpolation": "cubist"},
        {"antialias": "yes"},
        {"further": 1},
        {"step": "__import__"},
        {"step": ["Resize"]},
    ],
)
def test_a_description_that_nothing_has_is_made_into_nothing(change: dict[str, Any]) -> None:
    said: Any = describe_transform(transforms.Resize(20))
    assert rebuilt_transform(said) is not None
    assert rebuilt_transform({**said, **change}) is None


def test_a_description_without_end_is_made_into_nothing() -> None:
    said: Any = {"step": "ToTensor"}
    for _ in range(5000):
        said = {"step": "Compose", "transforms": [said]}
    assert rebuilt_transform(said) is None
    assert rebuilt_transform({"step": "Compose", "transforms": [{"step": "ToTensor"}] * 60}) is None
    assert rebuilt_transform(None) is None
