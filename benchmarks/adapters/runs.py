"""Runs: the cells of each part, first those by which learning rates are chosen, for every kind alike."""

import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.adapters import cost, steering
from benchmarks.adapters.cells import Cell, Result, measure, read_results

__all__ = ["PARTS", "chosen_rates", "measure_part"]

PARTS = {part.NAME: part for part in (steering, cost)}
_CELLS = "cells.jsonl"


def measure_part(name: str, folder: Path, *, n_seeds: int, runs: int) -> None:
    """Measure what is missing of a part; `runs` is for `cost` alone."""
    torch.set_num_threads(1)
    part, file = PARTS[name], folder / _CELLS
    examine = partial(part.examine, folder=folder)
    if missing := part.missing():
        print(f"{name}: left out, {missing}", flush=True)
        return
    kinds = part.kinds()
    tuning = [Cell(name, kind, rate, seed) for seed in part.TUNING_SEEDS for kind in kinds for rate in part.RATES]
    measure(tuning, file, examine, _commit())
    rates = chosen_rates(read_results(file), name) or dict.fromkeys(kinds, part.RATES[0])
    measure([Cell(name, kind, rates[kind], seed) for seed in range(n_seeds) for kind in kinds], file, examine, _commit())
