"""All cells, on several processes of one thread each.

Results are lines of JSON, written as each cell ends; what is in the file is not measured again.
"""

import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.quality.cells import Cell, Result, examine
from benchmarks.quality.images import features_on_disk, load_features
from model_handler import Features

__all__ = ["measure", "read_results"]

_features: dict[str, Features] = {}  # of a worker


def measure(cells: Sequence[Cell], file: Path, *, cache: Path | None, n_workers: int) -> None:
    """Add the results of the cells that are not in `file` yet, and print a line for each."""
    known = {result.cell for result in read_results(file)}
    missing = [cell for cell in cells if cell not in known]
    if not missing:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with features_on_disk(cache) as directory:
        context = multiprocessing.get_context("spawn")
        with context.Pool(n_workers, _begin, (directory,)) as pool, file.open("a") as lines:
            for number, result in enumerate(pool.imap_unordered(_examine, missing), 1):
                lines.write(json.dumps(asdict(result)) + "\n")
                lines.flush()
                print(f"{number} of {len(missing)}, {time.perf_counter() - start:.0f} s: {_line(result)}", flush=True)


def read_results(file: Path) -> list[Result]:
    """The last result of each cell."""
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    results = [Result(Cell(**each["cell"]), each["measures"]) for each in found]
    return list({result.cell: result for result in results}.values())


def _begin(directory: Path) -> None:
    """In a worker: one thread, and the features."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
    _features.update(load_features(directory))


def _examine(cell: Cell) -> Result:
    return examine(cell, _features)


def _line(result: Result) -> str:
    cell = result.cell
    where = f"{cell.task}, {cell.n_labels or 'all'} labels, seed {cell.seed}, {cell.method}"
    return f"{where}: log loss {result.measures['log_loss']:.3f}"
