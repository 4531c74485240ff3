"""The network of a file gives the features that extraction gives."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms

from model_handler import ModelHandler, Source
from model_handler.onnx_export.exportable_network import ExportableNetwork, LayerFeatures
from model_handler.onnx_export.file_inputs import file_inputs
from tests.model_handler.onnx_export.texts import TEXTS, text_source


class InPlace(nn.Module):
    """Layers that write over what other layers gave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.norm(self.conv(x))))


class OneWayByTheData(nn.Module):
    """What cannot be traced: hooks run it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x) if x.sum() > -1e9 else self.other(x))


def features_of_file(handler: ModelHandler, values: Any, layers: list[str], pooling: Any) -> np.ndarray:
    inputs = file_inputs(values, handler.transform)
    tensors = [torch.from_numpy(array) for array in inputs.arrays.values()]
    body = LayerFeatures(handler, layers, pooling, inputs.reading(*tensors))
    with torch.no_grad():
        return ExportableNetwork(body, inputs).eval()(*tensors).numpy()


@pytest.mark.parametrize("pooling", ["auto", "flatten", "max"])
def test_features_are_those_of_extraction(pooling: str) -> None:
    handler = ModelHandler(InPlace())
    X, layers = torch.rand(5, 3, 9, 9), ["norm", "last", "conv"]
    wanted = handler.extract(X, layers, pooling=pooling).matrix
    np.testing.assert_allclose(features_of_file(handler, X, layers, pooling), wanted, atol=1e-6)


def test_pixels_are_scaled_inside() -> None:
    photos = [np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8) for seed in range(4)]
    scale = transforms.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    steps = [transforms.Resize(12), transforms.CenterCrop(12), transforms.ToTensor(), scale]
    handler = ModelHandler(Source(InPlace(), transforms.Compose(steps)))
    wanted = handler.extract(photos, ["last"], pooling="avg").matrix
    np.testing.assert_allclose(features_of_file(handler, photos, ["last"], "avg"), wanted, atol=2e-6)


def test_padding_of_texts_counts_nothing() -> None:
    handler = ModelHandler(text_source())
    wanted = handler.extract(TEXTS, ["mix"], pooling="auto").matrix
    found = features_of_file(handler, handler.transform(TEXTS), ["mix"], "auto")  # type: ignore[misc]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_hooks_run_is_run_by_hooks() -> None:
    handler, X = ModelHandler(OneWayByTheData()), torch.rand(4, 4)
    assert "by hooks" in repr(handler)
    wanted = handler.extract(X, ["layer", "last"]).matrix
    np.testing.assert_allclose(features_of_file(handler, X, ["layer", "last"], "auto"), wanted, atol=1e-6)


def test_the_network_of_the_user_stays_as_it_was() -> None:
    network = InPlace().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    handler = ModelHandler(network)
    body = LayerFeatures(handler, ["last"], "avg", torch.rand(3, 3, 9, 9))
    body(torch.rand(3, 3, 9, 9))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
