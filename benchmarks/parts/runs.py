"""Runs: what is missing of each part.

A part is a module with the name of the part, which gives

    NAME                  str; the `part` of its cells is NAME, or begins with "NAME, "
    N_SEEDS               int, how many draws there are by default
    missing()             what it needs and is not installed, as part of a sentence; "" where nothing is
    kinds()               list of (part, kind): each is a cell in each draw
    examine(cell, folder) measures by name, as float; `folder` is where features and the like may be kept
    section(findings)     the lines of its section in the report, from an empty line and "## ..." on
    aims(findings)        a row of three texts for each aim: the aim, what was found, the verdict (`verdicts.judged`)
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch

from benchmarks.adapters.cells import CELLS, Cell, measure
from benchmarks.adapters.findings import Findings
from benchmarks.adapters.runs import commit

__all__ = ["Part", "measure_part", "part_named"]


class Part(Protocol):
    """What a module of a part gives."""

    NAME: str
    N_SEEDS: int
    missing: Callable[[], str]
    kinds: Callable[[], list[tuple[str, str]]]
    examine: Callable[[Cell, Path], Mapping[str, float]]
    section: Callable[[Findings], Iterator[str]]
    aims: Callable[[Findings], Iterator[list[str]]]


def part_named(benchmark: str, name: str) -> Part:
    """Return the module of a part."""
    return cast(Part, import_module(f"benchmarks.{benchmark}.{name}"))


def measure_part(part: Part, folder: Path, n_seeds: int | None) -> None:
    """Measure what is missing of a part, draw by draw, and add it to the cells in the folder."""
    if missing := part.missing():
        print(f"{part.NAME}: left out, as {missing}", flush=True)
        return
    torch.set_num_threads(1)
    kinds = part.kinds()
    cells = [Cell(where, kind, 0.0, seed) for seed in range(n_seeds or part.N_SEEDS) for where, kind in kinds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few rows: what they are worth is measured here
        measure(cells, folder / CELLS, partial(part.examine, folder=folder), commit())
