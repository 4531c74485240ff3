"""The aims that were set before anything was measured, and whether they are met."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.cells import ALL, auroc_name
from benchmarks.quality.findings import DIGITS, Estimate, Findings
from benchmarks.quality.heads import BASELINE, DEFAULTS, METHODS, MUTUAL, NEAREST, PROBABILITY, TUNED, VARIANCE
from benchmarks.quality.images import unfamiliar_sets

__all__ = ["Verdict", "verdicts"]

_LOSS = "log_loss"
_GP, _CHOSEN = "GP", "tuned LR, chosen layers"
_GAIN, _WORSE = 0.03, 0.02  # in AUROC over the maximum probability of LR; in nats at 50 labels a class
_MEAN_RATIO, _LARGEST_RATIO = 0.9, 1.02
_FIRST_TASKS = ("digits", "mnist")  # for which the other aims were set
_FEW = (2, 5, 10, 50)
_ABOVE = 0.015  # in nats over the baseline


@dataclass(frozen=True)
class Verdict:
    """One aim in one place, what was found there, and whether that meets it; None where nothing was measured."""

    aim: str
    where: str
    found: str
    met: bool | None

    @property
    def word(self) -> str:
        """For the table."""
        return "not measured" if self.met is None else "met" if self.met else "**missed**"


def verdicts(findings: Findings) -> list[Verdict]:
    """Every aim in every place; means decide, and standard errors stand beside them."""
    return [
        verdict
        for aim in (_losses_of_defaults, _gp_losses, _gp_aurocs, _losses_with_many_labels, _layer_ratios)
        for verdict in aim(findings)
    ]


def _losses_of_defaults(findings: Findings) -> Iterator[Verdict]:
    """Every cell of two splits or more: only a difference of more than twice its error counts."""
    aim = f"log loss of every default at most {_ABOVE} above that of {BASELINE}, beyond twice the error"
    for task in findings.tasks:
        for n_labels in (*_FEW, ALL):
            amount = f"{n_labels} labels a class" if n_labels else "all labels"
            for title in DEFAULTS:
                found = findings.difference(task, [n_labels], (title, _LOSS), (BASELINE, _LOSS))
                if found and np.isfinite(found.error):
                    met = found.mean - 2 * found.error <= _ABOVE
                    yield Verdict(aim, f"{task}, {amount}, {title}", found.signed, met)


def _gp_losses(findings: Findings) -> Iterator[Verdict]:
    for n_labels in (5, 10, ALL):
        for task in _FIRST_TASKS:
            found = findings.difference(task, [n_labels], (_GP, _LOSS), (TUNED, _LOSS))
            where = f"{task}, {n_labels} labels a class" if n_labels else f"{task}, all labels"
            yield _at_most("log loss of GP at or below that of tuned LR", where, found, 0.0)


def _gp_aurocs(findings: Findings) -> Iterator[Verdict]:
    for title, base, gain, text in (
        (TUNED, PROBABILITY, _GAIN, f"maximum probability of tuned LR + {_GAIN:.2f}"),
        (BASELINE, NEAREST, 0.0, "distance to the nearest training row"),
    ):
        for task in _FIRST_TASKS:
            for unfamiliar in unfamiliar_sets(task):
                for score in (VARIANCE, MUTUAL):
                    ours, other = (_GP, auroc_name(unfamiliar, score)), (title, auroc_name(unfamiliar, base))
                    found = findings.difference(task, _FEW, ours, other)
                    yield _at_least(
                        f"AUROC of GP at least that of the {text}", f"{task}, {unfamiliar}: {score}", found, gain
                    )


def _losses_with_many_labels(findings: Findings) -> Iterator[Verdict]:
    for task in _FIRST_TASKS:
        for title in [method.title for method in METHODS if method.title not in (BASELINE, TUNED)]:
            found = findings.difference(task, [50], (title, _LOSS), (TUNED, _LOSS))
            aim = f"log loss at 50 labels a class at most {_WORSE:.2f} above that of tuned LR"
            yield _at_most(aim, f"{task}, {title}", found, _WORSE)


def _layer_ratios(findings: Findings) -> Iterator[Verdict]:
    ratios = {
        f"{task}, {n_labels} labels": findings.ratio(task, [n_labels], (_CHOSEN, _LOSS), (TUNED, _LOSS))
        for task in _FIRST_TASKS
        for n_labels in (5, 10)
    }
    measured = {where: ratio for where, ratio in ratios.items() if ratio}
    aims = ("log loss of tuned LR with chosen layers to that with the last one", "5 and 10 labels, both data sets")
    if len(measured) < len(ratios):
        yield Verdict(*aims, "", None)
        return
    mean = sum(ratio.mean for ratio in measured.values()) / len(measured)
    worst = max(measured, key=lambda where: measured[where].mean)
    largest = measured[worst].mean
    yield Verdict(f"{aims[0]}: at most {_MEAN_RATIO} on average", aims[1], f"{mean:.3f}", mean <= _MEAN_RATIO)
    found = f"{largest:.3f} ({worst}); single split: {max(ratio.largest for ratio in measured.values()):.3f}"
    yield Verdict(f"{aims[0]}: nowhere above {_LARGEST_RATIO}", aims[1], found, largest <= _LARGEST_RATIO)


def _at_most(aim: str, where: str, found: Estimate | None, limit: float) -> Verdict:
    return Verdict(aim, where, found.signed if found else "", round(found.mean, DIGITS) <= limit if found else None)


def _at_least(aim: str, where: str, found: Estimate | None, limit: float) -> Verdict:
    return Verdict(aim, where, found.signed if found else "", round(found.mean, DIGITS) >= limit if found else None)
