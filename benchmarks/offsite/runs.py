"""Runs: what is missing of each part."""

from functools import partial
from pathlib import Path

import torch

from benchmarks.adapters.cells import CELLS, Cell, measure
from benchmarks.adapters.runs import commit, measure_task
from benchmarks.offsite import sizes
from benchmarks.offsite.report import TASKS

__all__ = ["PARTS", "measure_part"]

PARTS = (*TASKS, sizes.NAME)


def measure_part(name: str, folder: Path, *, n_seeds: int) -> None:
    """Measure what is missing of a part, and add it to the cells in the folder."""
    torch.set_num_threads(1)
    if name != sizes.NAME:
        measure_task(TASKS[name], folder, n_seeds=n_seeds)
        return
    cells = [Cell(name, kind, 0.0, run) for run in range(n_seeds) for kind in sizes.KINDS]
    measure(cells, folder / CELLS, partial(sizes.examine, folder=folder), commit())
