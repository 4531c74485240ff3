"""Findings: means over draws with standard errors, and differences paired by draw."""

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.adapters.cells import Result
from benchmarks.adapters.methods import LEFT_AFTER, LEFT_BEFORE, TUNING_SEEDS
from benchmarks.quality.findings import Estimate

__all__ = ["Findings", "chosen_rates"]


class Findings:
    """The results that count, without those by which rates are chosen, to be asked for by part, kind and measure."""

    def __init__(self, results: Sequence[Result]) -> None:
        rates = {part: chosen_rates(results, part) for part in {result.cell.part for result in results}}
        self._results = [
            result
            for result in results
            if result.cell.seed not in TUNING_SEEDS
            and result.cell.rate == rates[result.cell.part].get(result.cell.kind, result.cell.rate)
        ]

    def kinds(self, part: str) -> list[str]:
        """List the kinds that were measured in a part, in the order in which they were."""
        return list(dict.fromkeys(result.cell.kind for result in self._results if result.cell.part == part))

    def rates(self, part: str) -> dict[str, float]:
        """Return the rate of each kind."""
        return {result.cell.kind: result.cell.rate for result in self._results if result.cell.part == part}

    def n_draws(self, part: str, kind: str, measure: str = "accuracy") -> int:
        """Count the draws of a kind."""
        return len(self.values(part, kind, measure))

    def estimate(self, part: str, kind: str, measure: str) -> Estimate | None:
        """Estimate the mean of a measure; None where nothing was measured."""
        return Estimate.of(list(self.values(part, kind, measure).values()))

    def difference(self, part: str, ours: str, other: str, measure: str = "accuracy") -> Estimate | None:
        """Estimate by how much a measure is above that of another kind, over the draws that both have."""
        return Estimate.of([value - base for value, base in self._pairs(part, ours, other, measure)])

    def ratio(self, part: str, ours: str, other: str, measure: str) -> Estimate | None:
        """Estimate how many times a measure is that of another kind, over the draws that both have."""
        return Estimate.of([value / base for value, base in self._pairs(part, ours, other, measure)])

    def won(self, part: str, ours: str, other: str, measure: str = "accuracy") -> str:
        """Tell in how many of the draws that both have one is ahead: "4 of 5"."""
        pairs = self._pairs(part, ours, other, measure)
        return f"{sum(value > base for value, base in pairs)} of {len(pairs)}"

    def moved(self, part: str, kind: str) -> Estimate | None:
        """Estimate which share of its distance to 1 attention on the left moved."""
        before, after = self.values(part, kind, LEFT_BEFORE), self.values(part, kind, LEFT_AFTER)
        return Estimate.of([(after[seed] - share) / (1 - share) for seed, share in before.items()])

    def values(self, part: str, kind: str, measure: str) -> dict[int, float]:
        """Return a measure by the seed of the draw."""
        return {
            result.cell.seed: result.measures[measure]
            for result in self._results
            if (result.cell.part, result.cell.kind) == (part, kind) and measure in result.measures
        }

    def _pairs(self, part: str, ours: str, other: str, measure: str = "accuracy") -> list[tuple[float, float]]:
        values, bases = self.values(part, ours, measure), self.values(part, other, measure)
        return [(value, bases[seed]) for seed, value in values.items() if seed in bases]


def chosen_rates(results: Iterable[Result], part: str) -> dict[str, float]:
    """Find the rate of each kind with the highest mean accuracy on the draws that are kept for this."""
    found: dict[str, dict[float, list[float]]] = {}
    for result in results:
        cell = result.cell
        if cell.part == part and cell.seed in TUNING_SEEDS:
            found.setdefault(cell.kind, {}).setdefault(cell.rate, []).append(result.measures["accuracy"])
    return {kind: max(rates, key=lambda rate: np.mean(rates[rate])) for kind, rates in found.items()}
