"""Networks: MNIST to scikit-learn's digits and back without labels of the target, in a small network.

It has learned the rows of the source by a plain loop; every method goes on from there, on the same rows and those of
the target to adapt to, and is tested on others.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.domains.features import ACCURACY, DIRECTIONS, N_ADAPT, N_SOURCE, N_TEST, SOURCE, missing
from benchmarks.domains.images import learned, small_images, small_network
from repurpose.domain import DannRepurposer, DanRepurposer, DeepCoralRepurposer, DomainNetworkRepurposer

__all__ = ["METHODS", "NAME", "N_EPOCHS", "N_SEEDS", "examine", "kinds", "missing", "part_of"]

NAME, N_SEEDS, N_EPOCHS = "networks", 5, 20
METHODS: Mapping[str, Callable[..., DomainNetworkRepurposer]] = {
    SOURCE: DomainNetworkRepurposer,
    "DAN": DanRepurposer,
    "Deep CORAL": DeepCoralRepurposer,
    "DANN": DannRepurposer,
}


def part_of(direction: str) -> str:
    """Name the cells of a direction."""
    return f"{NAME}, {direction}"


def kinds() -> list[tuple[str, str]]:
    """List what is compared, in each direction."""
    return [(part_of(direction), kind) for direction in DIRECTIONS for kind in METHODS]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Adapt without labels of the target, and measure on other rows of it."""
    source_task, target_task = next(tasks for name, tasks in DIRECTIONS.items() if part_of(name) == cell.part)
    (images, labels), (others, truth) = small_images(source_task), small_images(target_task)
    rng = np.random.default_rng(cell.seed)
    source, target = rng.permutation(len(labels))[:N_SOURCE], rng.permutation(len(truth))
    network = _source_network(source_task, tuple(source.tolist()))
    method = METHODS[cell.kind](network, num_epochs=N_EPOCHS, random_state=cell.seed, verbose=False)
    method.repurpose(others[target[:N_ADAPT]], source_data=(images[source], labels[source]))
    test = target[N_ADAPT : N_ADAPT + N_TEST]
    return {ACCURACY: float(method.score(others[test], truth[test]))}


@cache
def _source_network(task: str, rows: tuple[int, ...]) -> nn.Module:
    images, labels = small_images(task)
    return learned(small_network(10), images[list(rows)], labels[list(rows)])
