"""Runs: what is missing of each part."""

import warnings
from functools import partial
from pathlib import Path

import torch

from benchmarks.adapters.cells import CELLS, measure
from benchmarks.adapters.runs import commit
from benchmarks.sources import encoding, groups, ranking, text, tuning

__all__ = ["PARTS", "measure_part"]

PARTS = {part.NAME: part for part in (ranking, tuning, text, encoding, groups)}


def measure_part(name: str, folder: Path, n_seeds: int | None) -> None:
    """Measure what is missing of a part, draw by draw, and add it to the cells in the folder."""
    part = PARTS[name]
    if missing := part.missing():
        print(f"{name}: left out, as {missing}", flush=True)
        return
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few rows: what they are worth is measured here
        # the layers of a source are known when its features are there
        for cells in part.cells(folder, n_seeds or part.N_SEEDS):
            measure(cells, folder / CELLS, partial(part.examine, folder=folder), commit())
