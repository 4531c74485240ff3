"""Findings: what the cells of a part say, by kind, and differences and ratios paired by seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.adapters.cells import Result
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.quality.findings import Estimate

__all__ = ["Findings", "Ratio", "chosen_rates"]


@dataclass(frozen=True)
class Ratio:
    """The median of ratios of paired runs, the standard error of their mean, and the least and largest."""

    median: float
    error: float
    least: float
    largest: float
    n_runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio | None":
        """Return None where there are no values."""
        estimate = Estimate.of(values)
        if estimate is None:
            return None
        return cls(float(np.median(values)), estimate.error, float(np.min(values)), estimate.largest, len(values))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.error:.3f}), {self.least:.3f} to {self.largest:.3f}"


class Findings:
    """The results that count: without those by which rates are chosen, and of the rate that was chosen."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.rates = chosen_rates(results)
        self._results = [
            result
            for result in results
            if result.cell.seed not in TUNING_SEEDS
            and result.cell.rate == self.rates.get(result.cell.kind, result.cell.rate)
        ]

    def values(self, part: str, kind: str, measure: str) -> dict[int, float]:
        """Return a measure by seed."""
        return {
            result.cell.seed: result.measures[measure]
            for result in self._results
            if (result.cell.part, result.cell.kind) == (part, kind) and measure in result.measures
        }

    def has(self, part: str) -> bool:
        """Say whether anything of a part was measured."""
        return any(result.cell.part == part for result in self._results)

    def estimate(self, part: str, kind: str, measure: str) -> Estimate | None:
        """Estimate the mean over seeds; None where nothing was measured."""
        return Estimate.of(list(self.values(part, kind, measure).values()))

    def difference(self, part: str, ours: str, other: str, measure: str) -> Estimate | None:
        """Estimate by how much a kind is above another, over the seeds that both have."""
        values, bases = (self.values(part, kind, measure) for kind in (ours, other))
        return Estimate.of([value - bases[seed] for seed, value in values.items() if seed in bases])

    def speed(self, part: str, kind: str, ours: str, other: str) -> Ratio | None:
        """Estimate how many times faster one side of a run is than the other."""
        mine, theirs = (self.values(part, kind, side) for side in (ours, other))
        return Ratio.of([theirs[seed] / seconds for seed, seconds in mine.items()])


def chosen_rates(results: Iterable[Result]) -> dict[str, float]:
    """Find the rate of each kind with the highest AP50 on the draw that is kept for this."""
    found: dict[str, dict[float, float]] = {}
    for result in results:
        if result.cell.seed in TUNING_SEEDS:
            found.setdefault(result.cell.kind, {})[result.cell.rate] = result.measures["ap50"]
    return {kind: max(rates, key=lambda rate: rates[rate]) for kind, rates in found.items()}
