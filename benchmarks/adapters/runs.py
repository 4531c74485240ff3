"""Runs: what is missing of each part, the cells by which learning rates are chosen first, for every kind alike."""

import subprocess
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.adapters import cost
from benchmarks.adapters.cells import CELLS, Cell, add, measure, read_results
from benchmarks.adapters.findings import chosen_rates
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.adapters.report import TASKS

__all__ = ["PARTS", "commit", "measure_part", "measure_task"]

PARTS = (*TASKS, cost.NAME)


def measure_part(name: str, folder: Path, *, n_seeds: int, runs: int) -> None:
    """Measure what is missing of a part, and add it to the cells in the folder; `runs` is for `cost` alone."""
    torch.set_num_threads(1)
    file = folder / CELLS
    if name == cost.NAME:
        add(cost.measure_steps(runs, commit()), file)
        measure([Cell(name, kind, 0.0, 1) for kind in cost.titles()], file, cost.measure_epoch, commit())
        return
    measure_task(TASKS[name], folder, n_seeds=n_seeds)


def measure_task(part: ModuleType, folder: Path, *, n_seeds: int) -> None:
    """Measure what is missing of a task; the kinds in its `HEADS` have no rate to be chosen."""
    name, file = part.NAME, folder / CELLS
    if missing := part.missing():
        print(f"{name}: left out, as {missing}", flush=True)
        return
    kinds, examine = part.kinds(), partial(part.examine, folder=folder)
    rated = [kind for kind in kinds if kind not in part.HEADS]
    tuning = [Cell(name, kind, rate, seed) for seed in TUNING_SEEDS for rate in part.RATES for kind in rated]
    measure(tuning, file, examine, commit())
    rates = chosen_rates(read_results(file), name)
    final = [Cell(name, kind, rates.get(kind, part.RATES[0]), seed) for seed in range(n_seeds) for kind in kinds]
    measure(final, file, examine, commit())


def commit() -> str:
    """Return the abbreviated name of the commit that runs."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
