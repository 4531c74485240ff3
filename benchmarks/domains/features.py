"""Features: MNIST to scikit-learn's digits and back without labels of the target, on features of EfficientNet-Lite0.

Each draw has source rows to train on and others to score by ("iwv"), rows of the target to adapt to, without labels,
and others to test on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapters.cells import Cell
from benchmarks.tasks import LAYER, kept_features
from model_handler import Features
from repurpose.domain import (
    CoralRepurposer,
    DomainRepurposer,
    ImportanceWeightedRepurposer,
    SubspaceAlignmentRepurposer,
    TcaRepurposer,
)

__all__ = [
    "ACCURACY",
    "DIRECTIONS",
    "METHODS",
    "NAME",
    "N_ADAPT",
    "N_HELD_OUT",
    "N_SEEDS",
    "N_SOURCE",
    "N_TEST",
    "SCORES",
    "SECONDS",
    "SIZE",
    "SOURCE",
    "Draw",
    "examine",
    "kinds",
    "missing",
    "part_of",
]

NAME, N_SEEDS = "features", 5
DIRECTIONS = {"MNIST to digits": ("mnist", "digits"), "digits to MNIST": ("digits", "mnist")}
SOURCE, ACCURACY, SECONDS, SIZE = "source only", "accuracy", "seconds", "effective share of the rows"
SCORES = ("iwv", "entropy", "snd")
N_SOURCE, N_HELD_OUT, N_ADAPT, N_TEST, _N_IMAGES = 1000, 300, 1000, 700, 2000
_NETWORK = "efficientnet-lite0"

METHODS: Mapping[str, Callable[..., DomainRepurposer]] = {
    SOURCE: DomainRepurposer,
    "TCA": TcaRepurposer,
    "CORAL": CoralRepurposer,
    "subspace alignment": SubspaceAlignmentRepurposer,
    "KMM": ImportanceWeightedRepurposer,
    "KLIEP": lambda *args, **options: ImportanceWeightedRepurposer(*args, method="kliep", **options),
    "domain classifier": lambda *args, **options: ImportanceWeightedRepurposer(*args, method="classifier", **options),
}


@dataclass(frozen=True, eq=False)
class Draw:
    """Labelled rows of the source, to train on and to score by, rows of the target to adapt to, and to test on."""

    source: Any
    held_out: Any
    unlabelled: Any
    test: Any


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") else "mlxtend is not installed"


def part_of(direction: str) -> str:
    """Name the cells of a direction."""
    return f"{NAME}, {direction}"


def kinds() -> list[tuple[str, str]]:
    """List what is compared, in each direction."""
    return [(part_of(direction), kind) for direction in DIRECTIONS for kind in METHODS]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Adapt without labels of the target, measure on other rows of it, and score without its labels."""
    drawn = _draw(next(name for name in DIRECTIONS if part_of(name) == cell.part), cell.seed, folder)
    method = METHODS[cell.kind](_NETWORK, [LAYER], random_state=cell.seed, verbose=False)
    start = time.perf_counter()
    method.repurpose(drawn.unlabelled, source_data=drawn.source)
    seconds = time.perf_counter() - start
    found = {ACCURACY: float(method.score(drawn.test, drawn.test.labels)), SECONDS: seconds}
    if isinstance(method, ImportanceWeightedRepurposer):
        found[SIZE] = method.effective_sample_size_ / N_SOURCE
    return found | {
        name: method.score_without_labels(drawn.unlabelled, source_data=drawn.held_out, method=name) for name in SCORES
    }


def _draw(direction: str, seed: int, folder: Path) -> Draw:
    source, target = (
        kept_features(task, folder, _N_IMAGES if task == "mnist" else None) for task in DIRECTIONS[direction]
    )
    rng = np.random.default_rng(seed)
    of_source, of_target = rng.permutation(len(source)), rng.permutation(len(target))
    return Draw(
        source[of_source[:N_SOURCE]],
        source[of_source[N_SOURCE : N_SOURCE + N_HELD_OUT]],
        Features(target[of_target[:N_ADAPT]].values),
        target[of_target[N_ADAPT : N_ADAPT + N_TEST]],
    )
