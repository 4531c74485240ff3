"""The mean and deviation of a source, read off its own preprocessing."""

import pytest
import torch
from torchvision import transforms
from torchvision.models import ResNet18_Weights

from model_handler import load_source
from repurpose.detection.networks.normalization import Normalization, normalization_of


def test_the_embedded_source_has_its_own_mean_and_deviation():
    found = normalization_of(load_source("efficientnet-lite0", pretrained=False).transform)
    torch.testing.assert_close(found.mean, (127 / 255,) * 3, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.deviation, (128 / 255,) * 3, atol=1e-6, rtol=0)


def test_presets_and_crops_of_torchvision_give_those_of_imagenet():
    padding = transforms.Compose([transforms.CenterCrop(300), ResNet18_Weights.DEFAULT.transforms()])
    for transform in (ResNet18_Weights.DEFAULT.transforms(), padding):
        found = normalization_of(transform)
        torch.testing.assert_close(found.mean, (0.485, 0.456, 0.406), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.deviation, (0.229, 0.224, 0.225), atol=1e-5, rtol=0)


def test_without_a_preprocessing_nothing_is_done():
    assert normalization_of(None) == Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([transforms.Grayscale(3), transforms.ToTensor()], "does more to colours"),
        ([transforms.ToTensor(), lambda image: image.flip(0)], "does more to colours"),
        ([transforms.ToTensor(), lambda image: image.sqrt()], "does more to colours"),
        ([transforms.ToTensor(), torch.zeros_like], "black and white the same value"),
        ([transforms.Grayscale(1), transforms.ToTensor()], r"\(3, height, width\), got \(1, 64, 64\)"),
        ([lambda image: "text"], "got str"),
    ],
)
def test_what_is_no_scaling_of_channels_is_refused(steps, match):
    with pytest.raises(ValueError, match=match):
        normalization_of(transforms.Compose(steps))
