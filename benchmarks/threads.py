"""Fits of few rows with one thread beside the user's threads, with and without another process that keeps a core busy.

Rows are drawn, as wide as those of EfficientNet-Lite0's last pooling layer, for ten classes. Both sides are whole fits
with the defaults from features, in turns; before is the library with its own choice of threads (`repurpose.threads`)
switched off. Lines are printed when they are measured, and written to a page by `--out`.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.heads import drawn, heads
from benchmarks.options import positive
from benchmarks.timing import Table, interleaved, machine, median_ratio, table_lines
from model_handler import Features
from repurpose import threads

ROWS = (135, 300, 500, 1000, 2000)
HEADS = ("GP", "LR", "SVM")
N_CLASSES = 10
PATIENCE = 60.0  # seconds of a fit; where one took longer, more rows are left out
HEADER = ["head", "rows", "before, s", "after, s", "ratio", "beside another: before, s", "after, s", "ratio"]


def main(arguments: Sequence[str]) -> None:
    """`--rows 135 300` and `--heads GP` take a part, `--few N` moves the limit, `--out FILE` writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__)
    parser.add_argument("--runs", type=positive, default=5, help="how often each side runs")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--heads", nargs="+", default=HEADS, choices=heads())
    parser.add_argument("--few", type=int, default=threads._FEW, help="rows up to which after has one thread")
    parser.add_argument("--out", type=Path, help="a page in Markdown")
    options = parser.parse_args(arguments)
    if torch.get_num_threads() == 1:
        parser.error("torch has one thread, so that there is nothing to compare: unset OMP_NUM_THREADS")
    print(_about(options.runs, options.few), flush=True)
    table = Table(HEADER)
    lines = []
    for cells in measure(options.heads, options.rows, options.runs, options.few):
        table.row(cells)
        lines.append(cells)
    if options.out is not None:
        page = ["# Threads of small fits", "", _about(options.runs, options.few), "", *table_lines(HEADER, lines)]
        options.out.write_text("\n".join(page) + "\n")


def measure(names: Sequence[str], sizes: Sequence[int], runs: int, few: int) -> Iterator[list[object]]:
    """A line of the table for each head and number of rows."""
    for name in names:
        slow = {False: False, True: False}
        for n_rows in sizes:
            cells: list[object] = [name, f"{n_rows:,}"]
            for is_busy in slow:
                if slow[is_busy]:
                    cells += ["-"] * 3
                    continue
                with _neighbour(is_busy):
                    seconds = interleaved(_sides(name, n_rows, few), runs)
                slow[is_busy] = max(seconds["before"]) > PATIENCE
                medians = [f"{median(seconds[side]):.3f}" for side in ("before", "after")]
                cells += [*medians, f"{median_ratio(seconds['before'], seconds['after']):.1f}"]
            yield cells


def _sides(name: str, n_rows: int, few: int) -> dict[str, Callable[[], object]]:
    rows, codes = drawn(n_rows, N_CLASSES)
    features = Features({"0": rows}, codes)

    def fit(limit: int) -> None:
        with patch.object(threads, "_FEW", limit):
            heads()[name](nn.Identity(), random_state=0).repurpose(features)

    return {"before": lambda: fit(0), "after": lambda: fit(few)}


@contextmanager
def _neighbour(is_busy: bool) -> Iterator[None]:
    """Another process that never rests, or none."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if is_busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _about(runs: int, few: int) -> str:
    return (
        f"Printed by `python -m benchmarks threads` ({machine()}): seconds of whole fits with the defaults on 1,280 "
        f"features and {N_CLASSES} classes, medians of {runs} runs of each side in turns, and the median ratio of "
        f"neighbouring runs. Before, all of it has the user's threads; after, what has up to {few:,} rows has one. "
        f"To the right, another process keeps one core busy. '-' follows a fit of over {PATIENCE:.0f} s."
    )
