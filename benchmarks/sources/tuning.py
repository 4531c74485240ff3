"""Tuning: how often the network runs over the data while a hundred trials choose C and pooling of a head."""

import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from benchmarks.adapters.cells import Cell
from benchmarks.tasks import task_images
from model_handler import ModelHandler, Source, load_source

__all__ = ["EXTRACTIONS", "KIND", "NAME", "N_SEEDS", "N_TRIALS", "ONE_PASS", "SECONDS", "cells", "examine", "missing"]

NAME, N_SEEDS, N_TRIALS = "tuning", 1, 100
KIND = "LR of EfficientNet-Lite0"
EXTRACTIONS, SECONDS, ONE_PASS = "extractions", "seconds", "seconds of one extraction"
_N_IMAGES = 200
_SPACE = {"c": (1e-4, 10.0, "log"), "pooling": ["avg", "max"]}


class _Counted(nn.Module):
    """Count the rows that pass, of all copies together."""

    n_rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        _Counted.n_rows += len(rows)
        return rows


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("optuna") else "optuna is not installed"


def cells(folder: Path, n_seeds: int) -> Iterator[list[Cell]]:
    """Give the cells."""
    yield [Cell(NAME, KIND, 0.0, seed) for seed in range(n_seeds)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Tune, and count the rows that the network computes."""
    from repurpose import LrRepurposer
    from repurpose.selection import tune

    source = load_source("efficientnet-lite0")
    pixels, labels = task_images("drawings", _N_IMAGES)
    network = Source(nn.Sequential(_Counted(), source.network).eval(), source.transform)
    handler = ModelHandler(network, batch_size=32)
    layers = handler.candidate_layers(data=list(pixels[:2]))[-2:]
    handler.extract(list(pixels[:32]), layers, pooling="avg")  # not counted
    start = time.perf_counter()
    handler.extract(list(pixels), layers, pooling="avg")
    one_pass = time.perf_counter() - start
    _Counted.n_rows = 0
    start = time.perf_counter()
    untrained = LrRepurposer(network, layers, verbose=False)
    result = tune(untrained, (list(pixels), labels), space=_SPACE, budget=N_TRIALS, random_state=cell.seed)
    seconds = time.perf_counter() - start
    counts = {EXTRACTIONS: _Counted.n_rows / _N_IMAGES, "trials": len(result.trials)}
    return counts | {SECONDS: seconds, ONE_PASS: one_pass}
