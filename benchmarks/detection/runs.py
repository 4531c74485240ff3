"""Runs: what is missing of each part, the cells by which learning rates are chosen first."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.adapters.cells import CELLS, Cell, measure, read_results
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.adapters.runs import commit
from benchmarks.detection import overfitting, transfer
from benchmarks.detection.findings import chosen_rates

__all__ = ["PARTS", "measure_part"]

PARTS = (overfitting.NAME, transfer.NAME)


def measure_part(name: str, folder: Path, *, n_seeds: int) -> None:
    """Measure what is missing of a part, and add it to the cells in the folder."""
    torch.set_num_threads(1)
    if name in (overfitting.NAME, transfer.NAME) and not find_spec("mlxtend"):
        print(f"{name}: left out, as mlxtend is not installed", flush=True)
        return
    _MEASURING[name](folder, n_seeds)


def _overfitting(folder: Path, n_seeds: int) -> None:
    cells = [Cell(overfitting.NAME, kind, 0.0, seed) for seed in range(n_seeds) for kind in overfitting.KINDS]
    measure(cells, folder / CELLS, overfitting.examine, commit())


def _transfer(folder: Path, n_seeds: int) -> None:
    name, file, examine = transfer.NAME, folder / CELLS, partial(transfer.examine, folder=folder)
    tuning = [Cell(name, kind, rate, seed) for seed in TUNING_SEEDS for rate in transfer.RATES for kind in transfer.KINDS]
    measure(tuning, file, examine, commit())
    rates = chosen_rates(read_results(file))
    measure([Cell(name, kind, rates[kind], seed) for seed in range(n_seeds) for kind in transfer.KINDS], file, examine, commit())


_MEASURING = {overfitting.NAME: _overfitting, transfer.NAME: _transfer}
