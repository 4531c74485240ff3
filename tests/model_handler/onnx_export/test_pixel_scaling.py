"""Which preprocessing can be parted into resize and scaling, and that the parts are the whole."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import ResNet18_Weights
from torchvision.transforms import functional, v2

from model_handler import load_source
from model_handler.onnx_export.pixel_scaling import parted

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SCALED = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
PARTED: dict[str, Any] = {
    "composed": transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *SCALED]),
    "nested": transforms.Compose([transforms.Resize((20, 30)), transforms.Compose(SCALED)]),
    "second version": v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(40),
            v2.CenterCrop(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, MEAN),
        ]
    ),
    "preset": ResNet18_Weights.DEFAULT.transforms(),
    "sequential": nn.Sequential(v2.PILToTensor(), v2.ConvertImageDtype(torch.float32)),
    "function": functional.to_tensor,
    "own scaling": transforms.Compose([transforms.Resize(40), lambda image: functional.to_tensor(image) * 2 - 1]),
    "grey": transforms.Compose([transforms.Resize((28, 28)), transforms.Grayscale(), transforms.ToTensor()]),
    "embedded": load_source("efficientnet-lite0", pretrained=False).transform,
}
NOT_PARTED: dict[str, Any] = {
    "resize of scaled": transforms.Compose([transforms.ToTensor(), transforms.Resize((28, 28))]),
    "resize inside": lambda image: functional.to_tensor(image.resize((20, 20))),
    "channels exchanged": transforms.Compose([transforms.ToTensor(), lambda image: image.flip(0)]),
    "curve": transforms.Compose([transforms.ToTensor(), lambda image: image**2]),
    "random": transforms.Compose([transforms.RandomCrop(16), transforms.ToTensor()]),
    "no image": lambda text: text.upper(),
}


def photograph(seed: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (75, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", PARTED)
def test_the_parts_together_are_the_whole(kind: str) -> None:
    found = parted(PARTED[kind])
    assert found is not None
    prepared, scaling = found
    pixels = prepared(photograph())
    assert pixels.dtype == np.uint8
    wanted = PARTED[kind](photograph()).permute(1, 2, 0).numpy()
    assert pixels.shape == wanted.shape
    np.testing.assert_allclose(scaling.apply(pixels), wanted, atol=5e-6)


@pytest.mark.parametrize("kind", NOT_PARTED)
def test_what_is_more_than_a_scaling_is_not_taken_for_one(kind: str) -> None:
    assert parted(NOT_PARTED[kind]) is None


def test_scaling_is_that_of_mean_and_deviation() -> None:
    found = parted(PARTED["composed"])
    assert found is not None
    np.testing.assert_allclose(found[1].factors, 1 / 255 / np.array(DEVIATION), rtol=1e-6)
    np.testing.assert_allclose(found[1].offsets, -np.array(MEAN) / np.array(DEVIATION), rtol=1e-6)


def test_resize_and_crop_are_described() -> None:
    found = parted(PARTED["composed"])
    assert found is not None
    resize, crop = found[0].steps
    assert (resize["step"], resize["size"], resize["interpolation"]) == ("Resize", 40, "bilinear")
    assert crop == {"step": "CenterCrop", "size": [32, 32]}


def test_what_a_resize_and_a_border_are_told_is_described() -> None:
    steps = [transforms.Resize(20, max_size=24), transforms.Pad(2, padding_mode="reflect"), transforms.CenterCrop(16)]
    found = parted(transforms.Compose([*steps, transforms.ToTensor()]))
    assert found is not None
    resize, border, _ = found[0].steps
    assert resize["max_size"] == 24
    assert (border["padding"], border["padding_mode"]) == (2, "reflect")


def test_a_function_of_ones_own_is_described_the_same_in_every_process() -> None:
    found = parted(transforms.Compose([lambda image: image.resize((9, 9)), transforms.ToTensor()]))
    assert found is not None
    assert "<lambda>" in found[0].steps[0]["as"]
    assert "0x" not in found[0].steps[0]["as"]


def test_processors_of_transformers_are_parted() -> None:
    transformers = pytest.importorskip("transformers")
    from model_handler.sources.image_processors import ImageProcessing

    processing = ImageProcessing(transformers.ViTImageProcessor(size={"height": 24, "width": 24}))
    found = parted(processing)
    assert found is not None
    pixels = found[0](photograph())
    np.testing.assert_allclose(found[1].apply(pixels), processing(photograph()).permute(1, 2, 0).numpy(), atol=5e-6)
    assert found[0].steps[0]["size"] == {"height": 24, "width": 24}


def test_torchs_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    parted(NOT_PARTED["random"])
    assert torch.equal(before, torch.get_rng_state())
