"""Classes: a small network that tells the digits 0 to 4 apart learns 5 to 9; scikit-learn's digits.

In one part it is asked for both tasks afterwards, without a row of the old one in training. In the other the new
task has few labels, and rows of the old one train beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.adapters.cells import Cell
from benchmarks.domains.images import TRANSFER_LAYER, learned, small_images, small_network
from model_handler import ModelHandler
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.domain.distillation.lwf_repurposer import LwfRepurposer

__all__ = [
    *("ACCURACY", "BOTH", "FEW", "FINE_TUNED", "HEAD", "LWF", "MULTI", "NAME", "N_EPOCHS", "N_FEW", "N_NEW", "N_OLD"),
    *("N_SEEDS", "OLD_ACCURACY", "TARGET", "WARMED_UP", "examine", "kinds", "missing"),
]

NAME, N_SEEDS = "classes", 5
BOTH, FEW = f"{NAME}, both tasks", f"{NAME}, few labels"
FINE_TUNED, WARMED_UP, HEAD, LWF = "fine-tuning", "fine-tuning, warmed up", "new head alone", "LwF"
TARGET, MULTI = "target only", "multi-task"
ACCURACY, OLD_ACCURACY = "accuracy", "accuracy, old task"
N_OLD, N_NEW, N_FEW, N_EPOCHS, _FIRST_NEW = 100, 50, 5, 60, 5  # rows of each class
_Task = tuple[Tensor, np.ndarray]


@dataclass(frozen=True, eq=False)
class Draw:
    """Images with their labels, to train on and to test on, of the old task and of the new one."""

    old: _Task
    new: _Task
    old_test: _Task
    new_test: _Task


def missing() -> str:
    """Say that nothing is."""
    return ""


def kinds() -> list[tuple[str, str]]:
    """List what is compared in each part."""
    return [(BOTH, kind) for kind in (FINE_TUNED, WARMED_UP, HEAD, LWF)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on the new task and measure on other rows of both."""
    drawn = draw(cell.seed, N_NEW if cell.part == BOTH else N_FEW)
    network = _old_network(cell.seed)
    return _both_tasks(cell, network, drawn)


def draw(seed: int, n_new: int) -> Draw:
    """Draw rows of each class to train on; what the old task may train on is not tested on in the new one either."""
    images, labels = small_images("digits")
    order = np.random.default_rng(seed).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(10)]
    old, new = of_class[:_FIRST_NEW], of_class[_FIRST_NEW:]
    parts = [[rows[:N_OLD] for rows in old], [rows[:n_new] for rows in new]]
    parts += [[rows[N_OLD:] for rows in classes] for classes in (old, new)]
    return Draw(*((images[rows], labels[rows]) for rows in map(np.concatenate, parts)))


def _both_tasks(cell: Cell, network: nn.Module, drawn: Draw) -> Mapping[str, float]:
    options = {"num_epochs": N_EPOCHS, "random_state": cell.seed, "verbose": False}
    if cell.kind in (LWF, WARMED_UP):
        weights = {} if cell.kind == LWF else {"distillation_weight": 0.0}
        keeping = LwfRepurposer(network, **weights, **options).repurpose(drawn.new)
        old_answers = keeping.predict_label(drawn.old_test[0], task="source")
        return {ACCURACY: keeping.score(drawn.new_test), OLD_ACCURACY: _share(old_answers, drawn.old_test[1])}
    rates = {"learning_rates": {"new": 1e-3, "*": 0.0}} if cell.kind == HEAD else {}
    tuned = NeuralNetworkFineTuneRepurposer(network, TRANSFER_LAYER, **rates, **options).repurpose(drawn.new)
    handler = ModelHandler(tuned.target_model_, verbose=False)
    rows = torch.from_numpy(handler.extract(drawn.old_test[0], [TRANSFER_LAYER]).matrix)
    with torch.inference_mode():
        old_answers = network.get_submodule("classifier")(rows).argmax(dim=1).numpy()
    return {ACCURACY: tuned.score(drawn.new_test), OLD_ACCURACY: _share(old_answers, drawn.old_test[1])}


def _share(answers: np.ndarray, truth: np.ndarray) -> float:
    return float((answers == truth).mean())


@cache
def _old_network(seed: int) -> nn.Module:
    return learned(small_network(_FIRST_NEW), *draw(seed, N_NEW).old)
