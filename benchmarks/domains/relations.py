"""Relations: a small student learns few digits of MNIST, of five classes, with and without a teacher of all ten.

What is measured are its rows before the classifier: whether the nearest of other rows, of all ten classes, is of the
same class, for classes that it learned and for those that it never saw.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.domains.features import ACCURACY, missing
from benchmarks.domains.images import TRANSFER_LAYER, learned, small_images, small_network
from model_handler import ModelHandler
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.domain import RelationalRepurposer

__all__ = [
    "ALONE",
    "LOSSES",
    "NAME",
    "N_EPOCHS",
    "N_SEEDS",
    "N_STUDENT",
    "N_TEACHER",
    "SEEN",
    "TEACHER",
    "UNSEEN",
    "examine",
    "kinds",
    "missing",
]

NAME, N_SEEDS = "relations", 5
TEACHER, ALONE = "teacher", "student alone"
LOSSES = {"student, rkd": "rkd", "student, correlation": "correlation"}
SEEN, UNSEEN = "nearest neighbour, learned classes", "nearest neighbour, other classes"
N_TEACHER, N_STUDENT, N_TEST, N_EPOCHS = 200, 50, 200, 40  # rows of each class
STUDENT_WIDTH, _N_LEARNED, _RATE = 8, 5, 1e-3


def kinds() -> list[tuple[str, str]]:
    """List what is compared."""
    return [(NAME, kind) for kind in (TEACHER, ALONE, *LOSSES)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train a student, and look for the neighbours of other rows."""
    images, labels = small_images("mnist")
    known, test = _rows(cell.seed)
    network = _student(cell) if cell.kind != TEACHER else _teacher(cell.seed)
    handler = ModelHandler(network, verbose=False)
    rows = {
        name: handler.extract(images[of], [TRANSFER_LAYER]).matrix for name, of in (("known", known), ("test", test))
    }
    nearest = KNeighborsClassifier(1).fit(rows["known"], labels[known]).predict(rows["test"])
    is_right, is_learned = nearest == labels[test], labels[test] < _N_LEARNED
    found = {ACCURACY: is_right, SEEN: is_right[is_learned], UNSEEN: is_right[~is_learned]}
    return {name: float(right.mean()) for name, right in found.items()}


def _student(cell: Cell) -> nn.Module:
    images, labels = small_images("mnist")
    known, _ = _rows(cell.seed)
    learned_from = np.concatenate([known[labels[known] == label][:N_STUDENT] for label in range(_N_LEARNED)])
    network, options = small_network(_N_LEARNED, width=STUDENT_WIDTH), {"random_state": cell.seed, "verbose": False}
    options |= {"num_epochs": N_EPOCHS, "learning_rates": {"*": _RATE}}  # nothing is transferred
    if cell.kind == ALONE:
        student = NeuralNetworkFineTuneRepurposer(network, TRANSFER_LAYER, **options)
    else:
        student = RelationalRepurposer(network, _teacher(cell.seed), loss=LOSSES[cell.kind], **options)
    return student.repurpose(images[learned_from], labels[learned_from]).target_model_


def _rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows that the teacher learns from, in which neighbours are looked for, and those that look for one."""
    _, labels = small_images("mnist")
    order = np.random.default_rng(seed).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(10)]
    known = np.concatenate([rows[:N_TEACHER] for rows in of_class])
    return known, np.concatenate([rows[N_TEACHER : N_TEACHER + N_TEST] for rows in of_class])


@cache
def _teacher(seed: int) -> nn.Module:
    images, labels = small_images("mnist")
    known, _ = _rows(seed)
    return learned(small_network(10), images[known], labels[known])
