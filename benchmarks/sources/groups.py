"""Groups: rows of patients who each have one class and a look of their own, and sets for patients that are new.

A row is the mean of its class, plus what its patient adds to every row of his, plus noise. Without `groups=` a held-out
row is told by the other rows of its patient, so that sets are promised for rows of known patients.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.adapters.cells import Cell
from model_handler import Features
from repurpose import GpRepurposer, LrRepurposer

__all__ = [
    "COVERAGE",
    "COVERED",
    "HEADS",
    "LABELS",
    "LOSS",
    "NAME",
    "N_CLASSES",
    "N_PATIENTS",
    "N_ROWS",
    "N_SEEDS",
    "WITH",
    "WITHOUT",
    "cells",
    "draw",
    "examine",
    "kind_of",
    "missing",
]

NAME, N_SEEDS = "groups", 20
COVERAGE = 0.9
COVERED, LABELS, LOSS = "covered", "labels a set", "log loss"
WITH, WITHOUT = "with groups", "without groups"
HEADS = {"LR": LrRepurposer, "GP": GpRepurposer}
N_CLASSES, N_PATIENTS, N_ROWS, _N_FEATURES = 4, 12, 5, 30  # patients of a class to learn from, rows of a patient
_N_NEW = 100  # patients of a class to test on
_OF_CLASS, _OF_PATIENT = 0.35, 1.0  # deviations in each feature; that of noise is 0.5
_NOISE = 0.5


def missing() -> str:
    """Say that nothing is."""
    return ""


def kind_of(head: str, groups: str) -> str:
    """Return the kind of a cell."""
    return f"{head}, {groups}"


def cells(folder: Path, n_seeds: int) -> Iterator[list[Cell]]:
    """Give the cells."""
    kinds = [kind_of(head, groups) for head in HEADS for groups in (WITHOUT, WITH)]
    yield [Cell(NAME, kind, 0.0, seed) for seed in range(n_seeds) for kind in kinds]


def draw(seed: int) -> tuple[Features, np.ndarray, Features]:
    """Draw rows to learn from, the patient of each, and a row each of new patients."""
    rng = np.random.default_rng(seed)
    means = _OF_CLASS * rng.standard_normal((N_CLASSES, _N_FEATURES))

    def rows_of(n_patients: int, n_rows: int) -> tuple[Features, np.ndarray]:
        classes = np.repeat(np.arange(N_CLASSES), n_patients)
        looks = means[classes] + _OF_PATIENT * rng.standard_normal((len(classes), _N_FEATURES))
        patients = np.repeat(np.arange(len(classes)), n_rows)
        rows = looks[patients] + _NOISE * rng.standard_normal((len(patients), _N_FEATURES))
        return Features({"rows": rows.astype(np.float32)}, classes[patients]), patients

    train, patients = rows_of(N_PATIENTS, N_ROWS)
    return train, patients, rows_of(_N_NEW, 1)[0]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train with groups or without, and measure on patients that are new."""
    train, patients, test = draw(cell.seed)
    head, _, given = cell.kind.partition(", ")
    options = {"groups": patients} if given == WITH else {}
    trained = HEADS[head]("efficientnet-lite0", random_state=cell.seed, verbose=False).repurpose(train, **options)
    members = trained.predict_set(Features(test.values), COVERAGE).members
    of_truth = np.arange(len(test)), test.labels
    right = trained.predict_probability(Features(test.values))[of_truth]
    return {
        COVERED: float(members[of_truth].mean()),
        LABELS: float(members.sum(axis=1).mean()),
        LOSS: float(-np.log(np.maximum(right, 1e-12)).mean()),
    }
