"""Choices: among methods on features the one with the highest score without labels is taken, and then judged."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.adapters.findings import Findings
from benchmarks.domains.features import ACCURACY, SOURCE
from benchmarks.quality.findings import Estimate

__all__ = ["Choices", "choose"]


@dataclass(frozen=True)
class Choices:
    """What was chosen, one a draw, and its accuracy: by itself, and less those of the best, the worst, source only."""

    kinds: Counter[str]
    accuracy: Estimate
    less_best: Estimate
    less_worst: Estimate
    less_source: Estimate


def choose(findings: Findings, part: str, kinds: Sequence[str], score: str) -> Choices | None:
    """Choose among `kinds` by a score, on every draw on which all of them were measured; None where there is none."""
    accuracies = {kind: findings.values(part, kind, ACCURACY) for kind in kinds}
    scores = {kind: findings.values(part, kind, score) for kind in kinds}
    seeds = sorted(set.intersection(*(set(scores[kind]) & set(accuracies[kind]) for kind in kinds)))
    if not seeds:
        return None
    chosen = {seed: max(kinds, key=lambda kind: scores[kind][seed]) for seed in seeds}
    found = {seed: accuracies[kind][seed] for seed, kind in chosen.items()}
    of_draw = {seed: [accuracies[kind][seed] for kind in kinds] for seed in seeds}
    return Choices(
        Counter(chosen.values()),
        _mean(found),
        _mean({seed: found[seed] - max(of_draw[seed]) for seed in seeds}),
        _mean({seed: found[seed] - min(of_draw[seed]) for seed in seeds}),
        _mean({seed: found[seed] - accuracies[SOURCE][seed] for seed in seeds}),
    )


def _mean(values: Mapping[int, float]) -> Estimate:
    estimate = Estimate.of([*values.values()])
    if estimate is None:
        raise ValueError("there are no draws")
    return estimate
