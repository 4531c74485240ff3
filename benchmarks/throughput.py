"""How fast training goes beside a loop written by hand: the same network, optimiser, batches and order, nothing frozen.

Ours reads the rows, follows a schedule, keeps a history and watches for a loss that is no number; the plain loop only
trains. Both end in the same weights, which is printed as the largest difference of a tensor.
"""

import copy
import statistics
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.frozen import furthest
from benchmarks.timing import interleaved, median_ratio, print_table
from repurpose.training import TrainingBatches, TrainingPlan, train
from repurpose.training.calling import call
from repurpose.training.losses import cross_entropy
from repurpose.training.objective import Objective

N_CLASSES, LEARNING_RATE = 10, 0.01


def run(runs: int = 5) -> None:
    """A row a network: rows a second of both, and how fast ours is beside the plain loop (1 is as fast)."""
    print(f"\ntraining throughput, medians of {runs} interleaved runs")
    rows = []
    for name, (make, shape, n_rows, batch_size, n_epochs) in _NETWORKS.items():
        torch.manual_seed(0)
        network, images = make(), torch.randn(n_rows, *shape)
        codes = np.arange(n_rows) % N_CLASSES
        sides: dict[str, Callable[[], nn.Module]] = {
            "plain": lambda: plain_loop(network, images, codes, batch_size, n_epochs),  # noqa: B023 (called here)
            "ours": lambda: ours(network, images, codes, batch_size, n_epochs),  # noqa: B023
        }
        seconds = interleaved(sides, runs)
        speeds = [n_rows * n_epochs / statistics.median(times) for times in seconds.values()]
        apart = furthest(*(side() for side in sides.values()))
        ratio = median_ratio(seconds["plain"], seconds["ours"])
        rows.append([name, *(f"{speed:.0f}" for speed in speeds), f"{ratio:.3f}", f"{apart:.1e}"])
    print_table(["network", "plain, rows/s", "ours, rows/s", "times as fast", "largest difference"], rows)


def _batches(images: Tensor, codes: np.ndarray, batch_size: int) -> TrainingBatches:
    n_rows = len(images)
    counts = {"rows": np.arange(n_rows), "n_rows": n_rows, "n_batches": -(-n_rows // batch_size), "most": batch_size}
    return TrainingBatches((images, codes), np.arange(N_CLASSES), seed=0, batch_size=batch_size, **counts)


def plain_loop(network: nn.Module, images: Tensor, codes: np.ndarray, batch_size: int, n_epochs: int) -> nn.Module:
    """What a user would write."""
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9)
    targets, batches = torch.from_numpy(codes), _batches(images, codes, batch_size)
    for epoch in range(n_epochs):
        for rows in torch.from_numpy(batches.order(epoch)).split(batch_size):
            loss = functional.cross_entropy(network(images[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def ours(network: nn.Module, images: Tensor, codes: np.ndarray, batch_size: int, n_epochs: int) -> nn.Module:
    """The same through `train`."""
    network = copy.deepcopy(network)
    plan = TrainingPlan(
        num_epochs=n_epochs,
        optimizer="SGD",
        optimizer_params={"momentum": 0.9},
        learning_rates={"*": LEARNING_RATE},
        scheduler=None,
        verbose=False,
    )
    objective = Objective(lambda module, inputs, targets: cross_entropy(call(module, inputs), targets), N_CLASSES)
    train(network, _batches(images, codes, batch_size), plan, objective)
    return network


def _small() -> nn.Module:
    stages = [nn.Sequential(nn.Conv2d(n, m, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for n, m in ((3, 32), (32, 64))]
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(64 * 8 * 8, N_CLASSES))


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int, int, int]] = {
    "two convolutions, 32 px": (_small, (3, 32, 32), 1024, 64, 3),
    "resnet18, 64 px": (lambda: torchvision.models.resnet18(num_classes=N_CLASSES), (3, 64, 64), 256, 32, 2),
    "resnet18, 224 px": (lambda: torchvision.models.resnet18(num_classes=N_CLASSES), (3, 224, 224), 64, 16, 1),
}
