"""Extraction at the last pooling and at an early layer, beside torchvision's extractor in a plain loop, and compiled.

Random weights serve: the work is the same. An early layer should take the share of the whole pass that its
multiplications are of all.
"""

import statistics
import time

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.timing import interleaved, machine, median_ratio, print_table
from model_handler import ModelHandler

NETWORKS = {
    "resnet18": ("avgpool", "layer1"),
    "resnet50": ("avgpool", "layer1"),
    "mobilenet_v3_large": ("avgpool", "features.3"),
    "efficientnet_b0": ("avgpool", "features.2"),
    "densenet121": ("features.norm5", "features.denseblock1"),
}
BEYOND = ("densenet121",)
BATCH_SIZE, N_IMAGES = 32, 64


def run(runs: int = 5) -> None:
    """Print images per second, ratios, and the early layer's share of the time beside its share of the work."""
    images = torch.randn(N_IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    print(f"{machine()}; batches of {BATCH_SIZE} at 224 x 224; medians of {runs} interleaved runs", flush=True)
    measured: dict[str, list[str]] = {}
    for name, layers in NETWORKS.items():
        measured[name] = measure(name, *layers, images, runs)
        print(*measured[name], flush=True)  # minutes lie between them
    sides = ["torchvision img/s", "compiled img/s", "compiling s", "ours img/s"]
    header = ["network", "layer", *sides, "ratio", "ratio to compiled"]
    print_table([*header, "early layer", "time share, ours", "torchvision's", "work share"], list(measured.values()))
    for side, column in (("torchvision", 6), ("compiled", 7)):
        ratios = [float(row[column]) for name, row in measured.items() if name not in BEYOND]
        mean = statistics.geometric_mean(ratios)
        print(f"against {side}, geometric mean without {', '.join(BEYOND)}: {mean:.2f}")


def measure(name: str, late: str, early: str, images: Tensor, runs: int) -> list[str]:
    """The row of one network."""
    network = torchvision.models.get_model(name, weights=None).eval()
    handler = ModelHandler(network, batch_size=BATCH_SIZE, verbose=False)
    loops = {layer: create_feature_extractor(network, [layer]) for layer in (late, early)}
    pooled = Pooled(loops[early])
    sides = {
        "theirs": lambda: plain_loop(loops[late], images),
        "ours": lambda: handler.extract(images, [late]),
        "theirs early": lambda: plain_loop(pooled, images),
        "ours early": lambda: handler.extract(images, [early], pooling="avg"),
    }
    compiling = 0.0
    if name not in BEYOND:  # compiling takes minutes there
        compiled, compiling = compile_extractor(loops[late], images)
        sides["compiled"] = lambda: plain_loop(compiled, images)
    seconds = interleaved(sides, runs)
    middle = {side: statistics.median(times) for side, times in seconds.items()}
    return [
        name,
        late,
        f"{N_IMAGES / middle['theirs']:.1f}",
        f"{N_IMAGES / middle['compiled']:.1f}" if compiling else "-",
        f"{compiling:.0f}" if compiling else "-",
        f"{N_IMAGES / middle['ours']:.1f}",
        f"{median_ratio(seconds['theirs'], seconds['ours']):.2f}",
        f"{median_ratio(seconds['compiled'], seconds['ours']):.2f}" if compiling else "-",
        early,
        f"{middle['ours early'] / middle['ours']:.2f}",
        f"{middle['theirs early'] / middle['theirs']:.2f}",
        f"{flops(loops[early], images[:1]) / flops(loops[late], images[:1]):.2f}",
    ]


def compile_extractor(extractor: nn.Module, images: Tensor) -> tuple[nn.Module, float]:
    """The extractor compiled, and how many seconds longer its first batch took than its second."""
    torch._dynamo.reset()
    compiled, seconds = torch.compile(extractor), []
    for _ in range(2):
        start = time.perf_counter()
        plain_loop(compiled, images[:BATCH_SIZE])
        seconds.append(time.perf_counter() - start)
    return compiled, seconds[0] - seconds[1]


def plain_loop(extractor: nn.Module, images: Tensor) -> np.ndarray:
    """What a user would write: batches through the extractor, flattened and joined."""
    with torch.inference_mode():
        blocks = [next(iter(extractor(batch).values())).flatten(1).numpy() for batch in images.split(BATCH_SIZE)]
    return np.concatenate(blocks)


class Pooled(nn.Module):
    """An extractor whose map is averaged over its positions."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: value.mean((2, 3)) for name, value in self.extractor(images).items()}


def flops(extractor: nn.Module, image: Tensor) -> int:
    """The multiplications and additions of one pass."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        extractor(image)
    return counter.get_total_flops()
