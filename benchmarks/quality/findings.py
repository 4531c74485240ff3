"""What all cells say together: means over the splits with standard errors, and differences paired by split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.cells import Result

__all__ = ["DIGITS", "Estimate", "Findings"]

DIGITS = 3  # behind the point, in print


@dataclass(frozen=True)
class Estimate:
    """A mean over splits, its standard error (nan for one split), and the largest value."""

    mean: float
    error: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate | None":
        """None where there are no values."""
        if not len(values):
            return None
        error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
        return cls(float(np.mean(values)), float(error), float(np.max(values)))

    def __str__(self) -> str:
        return f"{self.mean:.{DIGITS}f} ({self.error:.{DIGITS}f})"

    @property
    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.{DIGITS}f} ({self.error:.{DIGITS}f})"


class Findings:
    """The results, to be asked for by task, labels a class, method and measure.

    Where several numbers of labels are given, their mean in each split is what counts.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self._measures = {result.cell: result.measures for result in results}
        self.n_labels = sorted({cell.n_labels for cell in self._measures}, key=lambda n: n or np.inf)
        seeds = {n: {cell.seed for cell in self._measures if cell.n_labels == n} for n in self.n_labels}
        self.n_splits = {n: len(of) for n, of in seeds.items()}
        self.tasks = sorted({cell.task for cell in self._measures})
        self.methods = {cell.method for cell in self._measures}

    def estimate(self, task: str, labels: Sequence[int], method: str, measure: str) -> Estimate | None:
        """Of a measure; None where nothing was measured."""
        return Estimate.of(list(self._values(task, labels, method, measure).values()))

    def difference(
        self, task: str, labels: Sequence[int], ours: tuple[str, str], other: tuple[str, str]
    ) -> Estimate | None:
        """Of a method's measure less another's, over the splits that both have; None where there are none."""
        pairs = self._pairs(task, labels, ours, other)
        return Estimate.of([value - base for value, base in pairs])

    def ratio(self, task: str, labels: Sequence[int], ours: tuple[str, str], other: tuple[str, str]) -> Estimate | None:
        """As `difference`, of a method's measure to another's."""
        pairs = self._pairs(task, labels, ours, other)
        return Estimate.of([value / base for value, base in pairs])

    def _pairs(
        self, task: str, labels: Sequence[int], ours: tuple[str, str], other: tuple[str, str]
    ) -> list[tuple[float, float]]:
        values, bases = self._values(task, labels, *ours), self._values(task, labels, *other)
        return [(value, bases[seed]) for seed, value in values.items() if seed in bases]

    def _values(self, task: str, labels: Sequence[int], method: str, measure: str) -> dict[int, float]:
        """The mean over the numbers of labels by split, of those splits in which all of them were measured."""
        by_seed: dict[int, list[float]] = {}
        for cell, measures in self._measures.items():
            if (cell.task, cell.method) == (task, method) and cell.n_labels in labels and measure in measures:
                by_seed.setdefault(cell.seed, []).append(measures[measure])
        return {seed: float(np.mean(of)) for seed, of in by_seed.items() if len(of) == len(labels)}
