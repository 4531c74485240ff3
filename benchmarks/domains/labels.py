"""Labels: many of MNIST's digits have one, few of scikit-learn's do; a head on their 8 x 8 pixels.

Those of MNIST lose their margin of 4 pixels first, as those of scikit-learn have none. What is compared
learns from rows with a label alone; it is tested on all other rows of the target.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.domains.images import resized
from benchmarks.tasks import few_per_class
from model_handler import Features
from repurpose import LrRepurposer, MetaModelRepurposer
from repurpose.domain import DomainRepurposer, TrAdaBoostRepurposer

__all__ = [
    *("ACCURACY", "BOOSTED", "NAME", "N_PER_CLASS", "N_SEEDS", "N_SOURCE", "POOLED", "SOURCE", "TARGET"),
    *("examine", "kinds", "missing", "part_of", "pixels_of"),
]

NAME, N_SEEDS = "labels", 10
SOURCE, TARGET, POOLED, BOOSTED = "source only", "target only", "pooled", "TrAdaBoost"
ACCURACY = "accuracy"
N_PER_CLASS, N_SOURCE, SIDE = (2, 5), 500, 8
_NETWORK, _LAYER = nn.Sequential(nn.Identity()), "pixels"


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") else "mlxtend is not installed"


def part_of(n_per_class: int) -> str:
    """Name the cells with so many labels a class."""
    return f"{NAME}, {n_per_class} a class"


def kinds() -> list[tuple[str, str]]:
    """List what is compared, with each number of labels."""
    return [(part_of(n), kind) for n in N_PER_CLASS for kind in (SOURCE, TARGET, POOLED, BOOSTED)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of source rows and of few labels, and measure on the rest of the target."""
    n_per_class = next(n for n in N_PER_CLASS if part_of(n) == cell.part)
    target = pixels_of("digits")
    few, others = few_per_class(np.asarray(target.labels), n_per_class, cell.seed)
    mnist = pixels_of("mnist")
    source = mnist[np.random.default_rng(cell.seed).permutation(len(mnist))[:N_SOURCE]]
    trained = _train(cell.kind, source, target[few], target[others], cell.seed)
    return {ACCURACY: float(trained.score(target[others], target.labels[others]))}


def _train(kind: str, source: Features, few: Features, others: Features, seed: int) -> MetaModelRepurposer:
    options = {"random_state": seed, "verbose": False}
    if kind == TARGET:
        return LrRepurposer(_NETWORK, [_LAYER], **options).repurpose(few)
    if kind == SOURCE:
        unlabelled = Features(others.values)
        return DomainRepurposer(_NETWORK, [_LAYER], **options).repurpose(unlabelled, source_data=source)
    method = {POOLED: DomainRepurposer, BOOSTED: TrAdaBoostRepurposer}[kind]
    return method(_NETWORK, [_LAYER], **options).repurpose(few, source_data=source)


@cache
def pixels_of(task: str) -> Features:
    """Return the pixels of all images of a task, brought to 8 x 8 and from 0 to 1, with their labels."""
    images, labels = resized(task, SIDE)
    return Features({_LAYER: images.flatten(1).numpy()}, labels)
