"""How rows are best computed on a CPU: the measurement behind the chunks and the memory format of `extraction.py`.

The network itself in a plain loop over the same images, in batches of several sizes and both memory formats.
"""

import statistics

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.features import BATCH_SIZE, NETWORKS
from benchmarks.timing import interleaved, machine, print_table
from model_handler import load_source

SIZES = (2, 4, 8, BATCH_SIZE)
N_IMAGES = BATCH_SIZE


def run(runs: int = 3) -> None:
    """Print images per second for each network, memory format and size of chunk."""
    images = torch.randn(N_IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    formats = {"channels first": images, "channels last": images.to(memory_format=torch.channels_last)}
    networks = {name: torchvision.models.get_model(name, weights=None).eval() for name in NETWORKS}
    networks["efficientnet-lite0"] = load_source("efficientnet-lite0").network
    rows = []
    for name, network in networks.items():
        sides = {(form, size): _loop(network, images, size) for form, images in formats.items() for size in SIZES}
        seconds = interleaved(sides, runs)
        for form in formats:
            speeds = [f"{N_IMAGES / statistics.median(seconds[form, size]):.1f}" for size in SIZES]
            rows.append([name, form, *speeds])
    print(f"{machine()}; images per second, medians of {runs} interleaved runs")
    print_table(["network", "memory format", *(f"chunks of {size}" for size in SIZES)], rows)


def _loop(network: nn.Module, images: Tensor, size: int):
    def loop() -> None:
        with torch.inference_mode():
            for chunk in images.split(size):
                network(chunk)

    return loop
