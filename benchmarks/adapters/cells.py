"""Cells: one training of one kind on one draw of a task, kept as a line of JSON as soon as it has ended.

What is in the file is not measured again, so a run that was stopped goes on where it was.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["CELLS", "Cell", "Result", "add", "measure", "read_results"]


CELLS = "cells.jsonl"  # the file, in the folder of all that is kept


@dataclass(frozen=True)
class Cell:
    """A kind of training, by its title, in a part of the comparison, at a learning rate, on the draw of a seed."""

    part: str
    kind: str
    rate: float
    seed: int


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured in a cell, by name, and the commit of the code that did."""

    cell: Cell
    measures: Mapping[str, float]
    commit: str


def measure(cells: Iterable[Cell], file: Path, examine: Callable[[Cell], Mapping[str, float]], commit: str) -> None:
    """Add the results of the cells that are not in `file` yet, one after the other, and print a line for each."""
    known = {result.cell for result in read_results(file)}
    for cell in cells:
        if cell in known:
            continue
        start = time.perf_counter()
        result = Result(cell, dict(examine(cell)), commit)
        add([result], file)
        told = ", ".join(f"{name} {value:.4g}" for name, value in result.measures.items())
        seconds = time.perf_counter() - start
        print(f"{cell.part}, {cell.kind}, rate {cell.rate:g}, seed {cell.seed}, {seconds:.0f} s: {told}", flush=True)


def add(results: Iterable[Result], file: Path) -> None:
    """Add results to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.writelines(json.dumps(asdict(result)) + "\n" for result in results)


def read_results(file: Path) -> list[Result]:
    """Read the last result of each cell; none where there is no file."""
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    results = [Result(Cell(**each["cell"]), each["measures"], each["commit"]) for each in found]
    return list({result.cell: result for result in results}.values())
