"""What rankings are worth, told three ways: of all candidates, of those of learned weights, and of layers of a network.

For each draw of a task a ranking has a rank correlation (Spearman) with the log loss that is reached afterwards on
other rows, and a regret: how much larger the log loss of its first choice is than the smallest one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from scipy.stats import spearmanr

from benchmarks.adapters.cells import Result
from benchmarks.quality.findings import Estimate
from benchmarks.sources.images import PRETRAINED
from benchmarks.sources.ranking import DEPTH, EXTRACTION, LOSS, NAME, seconds_of, source_of
from benchmarks.sources.scores import CROSS_VALIDATION, LOSSES, SCORES

__all__ = ["ACCURACY", "ALL", "LAST", "PRETRAINED_ONLY", "RANKINGS", "SIZE", "WAYS", "WITHIN", "Told", "Worth"]

ALL, PRETRAINED_ONLY, WITHIN = "all candidates", "learned weights only", "layers within one network"
WAYS = (ALL, PRETRAINED_ONLY, WITHIN)
SIZE, ACCURACY, LAST = "size of the network", "ImageNet accuracy", "the last layer"
RANKINGS = (*SCORES, CROSS_VALIDATION, SIZE, ACCURACY, LAST)
# Top-1 in per cent, as published with the weights; others are not trained on it.
_PUBLISHED = {"efficientnet-lite0, ImageNet": 75.1, "efficientnet-lite1, ImageNet": 76.7}
_PUBLISHED |= {"efficientnet-lite2, ImageNet": 77.6}

Draw = tuple[str, int]  # task and seed


@dataclass(frozen=True)
class Candidate:
    """A layer of a source, by its measures and those of its source."""

    source: str
    measures: Mapping[str, float]
    n_parameters: float

    def goodness(self, ranking: str) -> float:
        """Return what a ranking says, the larger the better."""
        if ranking == SIZE:
            return self.n_parameters
        if ranking == ACCURACY:
            return _PUBLISHED.get(self.source, 0.0)
        value = self.measures[DEPTH if ranking == LAST else ranking]
        if isnan(value):
            return -np.inf
        return -value if ranking in LOSSES else value


@dataclass(frozen=True)
class Worth:
    """The rank correlation and the regret (nats) of a ranking in each draw: (n_draws,)."""

    correlations: np.ndarray
    regrets: np.ndarray


class Told:
    """The candidates of each draw, by task and seed, and what rankings of them are worth."""

    def __init__(self, results: Sequence[Result], loss: str = LOSS) -> None:
        self._loss = loss
        sizes = {
            (_task(result), result.cell.kind): result.measures["parameters"]
            for result in results
            if result.cell.part.startswith(f"{EXTRACTION}, ")
        }
        self._draws: dict[Draw, list[Candidate]] = {}
        for result in results:
            if result.cell.part.startswith(f"{NAME}, "):
                source = source_of(result.cell.kind)
                candidate = Candidate(source, result.measures, sizes.get((_task(result), source), 0.0))
                self._draws.setdefault((_task(result), result.cell.seed), []).append(candidate)

    @property
    def n_draws(self) -> int:
        """How many draws of tasks there are."""
        return len(self._draws)

    def worth(self, way: str, ranking: str, tasks: Sequence[str] | None = None) -> Worth:
        """Return what a ranking is worth in each draw, or in those of some tasks; within networks, on average."""
        found = [
            np.mean([self._judged(candidates, ranking) for candidates in _contests(of_draw, way)], axis=0)
            for (task, _), of_draw in self._draws.items()
            if tasks is None or task in tasks
        ]
        correlations, regrets = np.array(found).reshape(-1, 2).T
        return Worth(correlations, regrets)

    def seconds(self, ranking: str) -> Estimate | None:
        """Estimate the seconds that a score takes for all candidates of a draw."""
        name = seconds_of(ranking)
        draws = [[candidate.measures.get(name, np.nan) for candidate in of_draw] for of_draw in self._draws.values()]
        sums = [float(np.sum(seconds)) for seconds in draws]
        return None if not sums or isnan(sums[0]) else Estimate.of(sums)

    def faster(self, ranking: str, other: str) -> Estimate | None:
        """Estimate how many times faster a score is than another one, draw by draw."""
        return self._paired(lambda of_draw: _total(of_draw, other) / _total(of_draw, ranking))

    def _paired(self, ratio: Callable[[Sequence[Candidate]], float]) -> Estimate | None:
        return Estimate.of([ratio(of_draw) for of_draw in self._draws.values()])

    def _judged(self, candidates: Sequence[Candidate], ranking: str) -> tuple[float, float]:
        losses = np.array([candidate.measures[self._loss] for candidate in candidates])
        goodness = [candidate.goodness(ranking) for candidate in candidates]
        same = len(set(goodness)) == 1 or len(set(losses)) == 1  # no order, and so no correlation
        correlation = 0.0 if same else float(spearmanr(goodness, -losses).statistic)
        # of layers that it does not tell apart, the last one
        first = max(range(len(losses)), key=lambda number: (goodness[number], candidates[number].measures[DEPTH]))
        return correlation, float(losses[first] - losses.min())


def _contests(candidates: Sequence[Candidate], way: str) -> list[list[Candidate]]:
    """Group candidates that are compared with each other."""
    if way == ALL:
        return [list(candidates)]
    if way == PRETRAINED_ONLY:
        return [[candidate for candidate in candidates if candidate.source in PRETRAINED]]
    by_source: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_source.setdefault(candidate.source, []).append(candidate)
    return list(by_source.values())


def _total(candidates: Sequence[Candidate], ranking: str) -> float:
    return sum(candidate.measures[seconds_of(ranking)] for candidate in candidates)


def _task(result: Result) -> str:
    return result.cell.part.partition(", ")[2]
