"""Networks: names, types and features of twenty of them, with random weights, on a few small inputs."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.compare.results import Results
from model_handler import ModelError, ModelHandler

__all__ = ["collect", "drawn"]

_N_ROWS, _BATCH_SIZE = 5, 3
_TORCHVISION = (
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "regnet_y_400mf",
    "densenet121",
    "googlenet",
)
_TIMM = ("resnet10t", "convnext_atto", "test_vit", "test_byobnet", "test_nfnet", "ghostnet_050", "edgenext_xx_small")
_POOLINGS = ("flatten", "avg", "max")


class _TwoInputs(nn.Module):
    """An image and numbers beside it, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.numbers = nn.Linear(4, 6)
        self.classifier = nn.Linear(12, 3)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.classifier(torch.cat([self.image(image).flatten(1), self.numbers(numbers).relu()], dim=1))


class _Tokens(nn.Module):
    """Tokens, read one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.reader = nn.GRU(8, 10, batch_first=True)
        self.classifier = nn.Linear(10, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.classifier(self.reader(self.embedding(tokens))[0].mean(dim=1))


class _Untraceable(nn.Module):
    """A path that depends on the numbers, which no graph can have: served by hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.classifier = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.first(rows).relu()
        if hidden.sum() > 0:
            hidden = self.second(hidden).tanh()
        return self.classifier(hidden)


def collect(results: Results, folder: Path) -> None:
    """Of each network what the handler lists, and features at layers over its depth."""
    for name, make in _networks():
        torch.manual_seed(0)
        network, inputs = make()
        if isinstance(network, nn.Module):
            drawn(network.eval())
        _look(results.under(name), ModelHandler(network, batch_size=_BATCH_SIZE, device="cpu", verbose=False), inputs)


def drawn(network: nn.Module) -> nn.Module:
    """The network, whose statistics of normalisation are random from now on, so that what is done to them shows."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return network


def _look(results: Results, handler: ModelHandler, inputs: Any) -> None:
    names = handler.layer_names
    results.add("layer names", "\n".join(names))
    results.add("layer types", "\n".join(map(handler.get_layer_type, names)))
    results.add("parameters", "\n".join(handler.get_layer_parameters(names)))
    results.add("classifier input", str(handler.classifier_input))
    results.add("shared and tied", repr((handler.shared_modules, handler.tied_weights)))
    candidates = handler.candidate_layers(6, inputs)
    results.add("candidates", "\n".join(candidates))
    results.add("features", handler.extract(inputs, candidates, pooling="auto").values)
    results.add("summary", str(handler.summary()))
    names = handler.layer_names  # of a network whose graph the inputs have refuted, others
    for number, layer in enumerate(names[:: max(1, len(names) // 5)]):
        pooling = _POOLINGS[number % len(_POOLINGS)]
        try:
            found: Any = handler.get_layer_output(inputs, [layer], pooling=pooling)[0][layer]
        except (ModelError, ValueError) as error:  # an output that has no row for each input, or cannot be pooled so
            found = type(error).__name__
        results.add(f"features by {pooling}, {layer}", found)


def _networks() -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
    yield from ((f"torchvision {name}", lambda name=name: (_torchvision(name), _images(64))) for name in _TORCHVISION)
    if find_spec("timm"):
        yield from ((f"timm {name}", lambda name=name: (_timm(name), _images(64))) for name in _TIMM)
    if find_spec("transformers"):
        yield "bert", lambda: (_bert(), {"input_ids": _tokens(200), "attention_mask": _mask()})
    yield "efficientnet-lite0", lambda: ("efficientnet-lite0", _images(96)[:2])
    yield "two inputs", lambda: (_TwoInputs(), ((_images(16), _rows(4)),))
    yield "tokens", lambda: (_Tokens(), _tokens(50))
    yield "untraceable", lambda: (_Untraceable(), _rows(6))


def _torchvision(name: str) -> nn.Module:
    import torchvision

    options = {"init_weights": False} if name == "googlenet" else {}  # its own way takes minutes
    return torchvision.models.get_model(name, weights=None, **options)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **({"img_size": 64} if "vit" in name else {}))


def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertModel(BertConfig(vocab_size=200, max_position_embeddings=32, **sizes))


def _images(size: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(_N_ROWS, 3, size, size)).astype(np.float32)


def _rows(width: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(_N_ROWS, width)).astype(np.float32)


def _tokens(vocabulary: int) -> np.ndarray:
    return np.random.default_rng(4).integers(5, vocabulary, size=(_N_ROWS, 12))


def _mask() -> np.ndarray:
    """The second row has only nine tokens."""
    mask = np.ones((_N_ROWS, 12), dtype=np.int64)
    mask[1, 9:] = 0
    return mask
