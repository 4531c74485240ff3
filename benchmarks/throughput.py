"""How fast training goes beside a loop written by hand: the same network, optimiser, batches and order, nothing frozen.

Ours reads the rows, follows a schedule, keeps a history and watches for a NaN loss; the plain loop only
trains. Both end in the same weights, which is printed as the largest difference of a tensor.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import nn

from benchmarks.loops import N_CLASSES, Job, furthest, ours, plain_loop
from benchmarks.timing import interleaved, median_ratio, print_table


def run(runs: int = 5) -> None:
    """A row a network: rows a second of both, and how fast ours is beside the plain loop (1 is as fast)."""
    print(f"\ntraining throughput, medians of {runs} interleaved runs")
    rows = []
    for name, (make, shape, n_rows, batch_size, n_epochs) in _NETWORKS.items():
        torch.manual_seed(0)
        job = Job(make(), torch.randn(n_rows, *shape), batch_size, n_epochs)
        sides = {"plain": partial(plain_loop, job), "ours": partial(ours, job)}
        seconds = interleaved(sides, runs)
        speeds = [n_rows * n_epochs / statistics.median(times) for times in seconds.values()]
        apart = furthest(*(side() for side in sides.values()))
        ratio = median_ratio(seconds["plain"], seconds["ours"])
        rows.append([name, *(f"{speed:.0f}" for speed in speeds), f"{ratio:.3f}", f"{apart:.1e}"])
    print_table(["network", "plain, rows/s", "ours, rows/s", "times as fast", "largest difference"], rows)


def _small() -> nn.Module:
    stages = [nn.Sequential(nn.Conv2d(n, m, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for n, m in ((3, 32), (32, 64))]
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(64 * 8 * 8, N_CLASSES))


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int, int, int]] = {
    "two convolutions, 32 px": (_small, (3, 32, 32), 1024, 64, 3),
    "resnet18, 64 px": (lambda: torchvision.models.resnet18(num_classes=N_CLASSES), (3, 64, 64), 256, 32, 2),
    "resnet18, 224 px": (lambda: torchvision.models.resnet18(num_classes=N_CLASSES), (3, 224, 224), 64, 16, 1),
}
