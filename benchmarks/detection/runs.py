"""Runs: what is missing of each part, the cells by which learning rates are chosen first."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.adapters.cells import CELLS, Cell, measure, read_results
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.adapters.runs import commit
from benchmarks.detection import backbones, overfitting, perfect, throughput, transfer
from benchmarks.detection.findings import chosen_rates

__all__ = ["PARTS", "measure_part"]

_NEEDS = {
    overfitting.NAME: "mlxtend",
    transfer.NAME: "mlxtend",
    perfect.NAME: "mlxtend",
    backbones.NAME: "timm",
    throughput.NAME: "torchvision",
}
PARTS = tuple(_NEEDS)
_PLAIN = {part.NAME: part for part in (overfitting, perfect, throughput)}


def measure_part(name: str, folder: Path, *, n_seeds: int, runs: int) -> None:
    """Measure what is missing of a part, and add it to the cells in the folder; `runs` are those of `throughput`."""
    torch.set_num_threads(1)
    if not find_spec(_NEEDS[name]):
        print(f"{name}: left out, as {_NEEDS[name]} is not installed", flush=True)
        return
    if name == backbones.NAME:
        backbones.sweep(folder / backbones.CELLS, commit())
    elif name == transfer.NAME:
        _measure_transfer(folder, n_seeds)
    else:
        part, n_cells = _PLAIN[name], runs if name == throughput.NAME else n_seeds
        cells = [Cell(name, kind, 0.0, seed) for seed in range(n_cells) for kind in part.KINDS]
        measure(cells, folder / CELLS, part.examine, commit())


def _measure_transfer(folder: Path, n_seeds: int) -> None:
    name, kinds, file = transfer.NAME, transfer.KINDS, folder / CELLS
    examine = partial(transfer.examine, folder=folder)
    tuning = [Cell(name, kind, rate, seed) for seed in TUNING_SEEDS for rate in transfer.RATES for kind in kinds]
    measure(tuning, file, examine, commit())
    rates = chosen_rates(read_results(file))
    measure([Cell(name, kind, rates[kind], seed) for seed in range(n_seeds) for kind in kinds], file, examine, commit())
