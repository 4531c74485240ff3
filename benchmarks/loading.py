"""What loading ahead is worth: features of a folder of photographs, read beside the computing and before it.

The folder has JPEGs of noise over a gradient, which take as long to decode as photographs do.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision
from PIL import Image

from benchmarks.timing import interleaved, machine, median_ratio, print_table
from model_handler import ModelHandler
from model_handler.data import images

NETWORKS = ("mobilenet_v3_small", "resnet18")
N_IMAGES = 128
SIZE = (500, 375)  # width and height of many of ImageNet's
BATCH_SIZE = 16


def run(runs: int = 3) -> None:
    """Print images per second for each network and number of torch's threads, and their ratio."""
    rows = []
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    with tempfile.TemporaryDirectory() as folder:
        _write_photographs(Path(folder))
        for name in NETWORKS:
            network = torchvision.models.get_model(name, weights=None).eval()
            handler = ModelHandler(network, transform=transform, batch_size=BATCH_SIZE, verbose=False)
            for n_threads in (1, 2):
                seconds = interleaved(_sides(handler, folder, n_threads), runs)
                speeds = [f"{N_IMAGES / statistics.median(times):.1f}" for times in seconds.values()]
                ratio = median_ratio(seconds["before"], seconds["beside"])
                rows.append([name, n_threads, *speeds, f"{ratio:.2f}"])
    print(f"{machine()}; images per second, medians of {runs} interleaved runs, {N_IMAGES} JPEGs of {SIZE}")
    print_table(["network", "torch's threads", "read before", "read beside", "ratio"], rows)


def _sides(handler: ModelHandler, folder: str, n_threads: int):
    last = handler.layer_names[-1]

    def beside() -> None:
        with _threads(n_threads):
            handler.extract(folder, [last])

    def before() -> None:
        with mock.patch.object(images, "prefetched", iter):
            beside()

    return {"before": before, "beside": beside}


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _write_photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    width, height = SIZE
    gradient = np.linspace(0, 180, width)[None, :, None]
    for number in range(N_IMAGES):
        coarse = rng.integers(0, 60, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
        pixels = gradient + coarse + rng.integers(0, 15, (height, width, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)
