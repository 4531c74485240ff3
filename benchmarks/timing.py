"""Timing that holds on a noisy machine: the sides take turns, and medians and ratios are what is told."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

__all__ = ["Table", "interleaved", "machine", "median_ratio", "print_table", "table_lines"]


def interleaved(sides: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each side, A B A B ..., after one run of each that is not counted."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(base: Sequence[float], ours: Sequence[float]) -> float:
    """How many times faster `ours` is, as the median over pairs of neighbouring runs."""
    return statistics.median(b / o for b, o in zip(base, ours, strict=True))


def machine() -> str:
    """What the numbers were measured on."""
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print("\n".join(table_lines(header, rows)), flush=True)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table in Markdown, columns aligned."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in texts]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


class Table:
    """A table in Markdown that prints each row when it is there; columns are as wide as their headers."""

    def __init__(self, header: Sequence[str], at_least: int = 8) -> None:
        self._widths = [max(len(text), at_least) for text in header]
        self.row(header)
        print("|" + "|".join("-" * (width + 2) for width in self._widths) + "|", flush=True)

    def row(self, cells: Sequence[object]) -> None:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(cells, self._widths)) + " |", flush=True)
