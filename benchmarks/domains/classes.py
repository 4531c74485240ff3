"""Classes: a small network that tells the digits 0 to 4 of MNIST apart learns 5 to 9.

In one part it is asked for both tasks afterwards, without a row of the old one in training, at two choices of rates. In
the other the new task has few labels, and rows of the old one train beside them, in as many steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.adapters.cells import Cell
from benchmarks.domains.features import ACCURACY, missing
from benchmarks.domains.images import TRANSFER_LAYER, learned, small_images, small_network
from model_handler import ModelHandler
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.domain import LwfRepurposer, MultiTaskRepurposer

__all__ = [
    "BOTH",
    "FEW",
    "FINE_TUNED",
    "LWF",
    "MULTI",
    "NAME",
    "N_EPOCHS",
    "N_FEW",
    "N_NEW",
    "N_OLD",
    "N_SEEDS",
    "OLD_ACCURACY",
    "RATE",
    "STARTS",
    "TARGET",
    "WARMED_UP",
    "examine",
    "kinds",
    "missing",
]

NAME, N_SEEDS = "classes", 5
RATE = 1e-2
BOTH = {f"{NAME}, both tasks, default rates": {}, f"{NAME}, both tasks, one rate": {"learning_rates": {"*": RATE}}}
FINE_TUNED, WARMED_UP, LWF = "fine-tuning", "fine-tuning, warmed up", "LwF"
FEW, TARGET, MULTI = f"{NAME}, few labels", "target only", "multi-task"
STARTS = ("from random weights", "from the old network")
OLD_ACCURACY = "accuracy, old task"
N_OLD, N_NEW, N_FEW, N_EPOCHS, _FIRST_NEW, _BATCH_SIZE = 250, 250, 5, 10, 5, 32  # rows of each class
_Task = tuple[Tensor, np.ndarray]


@dataclass(frozen=True, eq=False)
class Draw:
    """Images with their labels, to train on and to test on, of the old task and of the new one."""

    old: _Task
    new: _Task
    old_test: _Task
    new_test: _Task


def kinds() -> list[tuple[str, str]]:
    """List what is compared in each part."""
    both = [(part, kind) for part in BOTH for kind in (FINE_TUNED, WARMED_UP, LWF)]
    return both + [(FEW, f"{kind}, {start}") for start in STARTS for kind in (TARGET, MULTI)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on the new task and measure on other rows of it, and where it is asked for too of the old one."""
    network = _old_network(cell.seed)
    options = {"random_state": cell.seed, "batch_size": _BATCH_SIZE, "verbose": False}
    if cell.part == FEW:
        return _with_few_labels(cell.kind, network, draw(cell.seed, N_FEW), options)
    options |= {"num_epochs": N_EPOCHS, **BOTH[cell.part]}
    return _both_tasks(cell.kind, network, draw(cell.seed, N_NEW), options)


def draw(seed: int, n_new: int) -> Draw:
    """Draw rows of each class to train on, and test on others, which are the same for every `n_new`."""
    images, labels = small_images("mnist")
    order = np.random.default_rng(seed).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(10)]
    old, new = of_class[:_FIRST_NEW], of_class[_FIRST_NEW:]
    parts = [[rows[:N_OLD] for rows in old], [rows[:n_new] for rows in new]]
    parts += [[rows[max(N_OLD, N_NEW) :] for rows in classes] for classes in (old, new)]
    return Draw(*((images[rows], labels[rows]) for rows in map(np.concatenate, parts)))


def _both_tasks(kind: str, network: nn.Module, drawn: Draw, options: Mapping[str, Any]) -> Mapping[str, float]:
    images, truth = drawn.old_test
    if kind in (LWF, WARMED_UP):
        weights = {} if kind == LWF else {"distillation_weight": 0.0}
        keeping = LwfRepurposer(network, **weights, **options).repurpose(drawn.new)
        return _measures(keeping.score(drawn.new_test), keeping.predict_label(images, task="source"), truth)
    tuned = NeuralNetworkFineTuneRepurposer(network, TRANSFER_LAYER, **options).repurpose(drawn.new)
    rows = ModelHandler(tuned.target_model_, verbose=False).extract(images, [TRANSFER_LAYER]).matrix
    with torch.inference_mode():
        answers = network.get_submodule("classifier")(torch.from_numpy(rows)).argmax(dim=1).numpy()
    return _measures(tuned.score(drawn.new_test), answers, truth)


def _measures(accuracy: float, old_answers: np.ndarray, truth: np.ndarray) -> Mapping[str, float]:
    return {ACCURACY: accuracy, OLD_ACCURACY: float((old_answers == truth).mean())}


def _with_few_labels(kind: str, network: nn.Module, drawn: Draw, options: Mapping[str, Any]) -> Mapping[str, float]:
    method, start = kind.split(", ")
    if start == STARTS[0]:
        network, options = small_network(_FIRST_NEW), {**options, "learning_rates": {"*": 1e-3}}
    n_steps = N_EPOCHS * ceil(len(drawn.old[1]) / _BATCH_SIZE)
    if method == MULTI:
        both = MultiTaskRepurposer(network, num_epochs=N_EPOCHS, **options)
        return {ACCURACY: both.repurpose(drawn.new, source_data=drawn.old).score(drawn.new_test)}
    n_epochs = n_steps // ceil(len(drawn.new[1]) / _BATCH_SIZE)
    tuned = NeuralNetworkFineTuneRepurposer(network, TRANSFER_LAYER, num_epochs=n_epochs, **options)
    return {ACCURACY: tuned.repurpose(drawn.new).score(drawn.new_test)}


@cache
def _old_network(seed: int) -> nn.Module:
    return learned(small_network(_FIRST_NEW), *draw(seed, N_NEW).old)
