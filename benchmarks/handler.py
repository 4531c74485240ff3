"""What a `ModelHandler` costs: the time to trace a network, and the memory that it adds to it.

Beside it stand `torch.fx.symbolic_trace` and torchvision's `create_feature_extractor`, which know less of a network:
they check nothing, and the latter traces it twice, once a mode.
"""

import gc
import multiprocessing
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.timing import interleaved, machine, print_table
from model_handler import ModelHandler

N_IMAGES = 32


def run(runs: int = 5) -> None:
    """Print medians of the time to trace, then the memory in a process of its own for each network."""
    print(f"{machine()}; medians of {runs} interleaved runs", flush=True)
    sides = {name: timed(name, runs) for name in NETWORKS}
    print_table(["seconds for", *next(iter(sides.values()))], [[name, *row.values()] for name, row in sides.items()])
    rows = []
    for name in NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append([name, *(f"{size / 2**20:.1f}" for size in pool.apply(memory, (name,)))])
    moments = ("handler", "after an extraction")
    header = [f"{kind}, {moment}" for moment in moments for kind in ("tensors of its own", "resident growth")]
    print_table(["MiB", "weights", *header], rows)


def three_hundred_layers() -> nn.Module:
    """A hundred times convolution, BatchNorm and ReLU."""
    triples = [(nn.Conv2d(16 if n else 3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for n in range(100)]
    return nn.Sequential(*(layer for triple in triples for layer in triple))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {  # with a layer, and the size of its images
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), "avgpool", 224),
    "300 layers": (three_hundred_layers, "299", 64),
}


def timed(name: str, runs: int) -> dict[str, str]:
    """Seconds of each way to trace a network."""
    make, layer, size = NETWORKS[name]
    network, images = make().eval(), torch.randn(2, 3, size, size)
    seconds = interleaved(
        {
            "symbolic_trace": lambda: fx.symbolic_trace(network),
            "create_feature_extractor": lambda: create_feature_extractor(network, [layer]),
            "ModelHandler": lambda: ModelHandler(network, device="cpu"),
            "ModelHandler with example inputs": lambda: ModelHandler(network, images, device="cpu"),
        },
        runs,
    )
    return {side: f"{statistics.median(times):.2f}" for side, times in seconds.items()}


def memory(name: str) -> list[float]:
    """Bytes: of the weights; with a new handler, of tensors not the network's and of growth; both after an extraction.

    What an extraction leaves behind are the folded weights.
    """
    make, layer, size = NETWORKS[name]
    warm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    images = torch.randn(N_IMAGES, 3, size, size)
    ModelHandler(warm, images, device="cpu").extract(images, ["1"])
    network = make().eval()
    with torch.inference_mode():
        network(images)
    known = tensors() | {storage_of(images)}
    weights = sum(t.untyped_storage().nbytes() for t in (*network.parameters(), *network.buffers()))
    before, found = resident(), [float(weights)]
    handler = ModelHandler(network, device="cpu", verbose=False)
    found += [own_bytes(known), resident() - before]
    features = handler.extract(images, [layer], pooling="avg")
    del features
    return [*found, own_bytes(known), resident() - before]


def tensors() -> set[tuple[int, int]]:
    """The storages of all tensors alive, each with its size."""
    gc.collect()
    return {storage_of(found) for found in gc.get_objects() if issubclass(type(found), Tensor)}


def storage_of(tensor: Tensor) -> tuple[int, int]:
    """Where the numbers of a tensor are, and how many bytes they take."""
    return tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()


def own_bytes(known: set[tuple[int, int]]) -> float:
    """Bytes of the tensors that were not there before."""
    return float(sum(size for _, size in tensors() - known))


def resident() -> float:
    """Bytes of this process in memory now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * 4096)
