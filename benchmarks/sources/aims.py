"""The aims that were set before anything was measured, and whether the means meet them."""

from collections.abc import Iterator
from math import inf
from statistics import median

from benchmarks.adapters.findings import Findings
from benchmarks.quality.findings import DIGITS, Estimate
from benchmarks.sources import encoding, groups, text, tuning
from benchmarks.sources.scores import CROSS_VALIDATION, GP
from benchmarks.sources.told import ACCURACY, ALL, PRETRAINED_ONLY, SIZE, Told, Worth

__all__ = ["aims", "median_speed"]

_MISSED = "**missed**"
_MARGIN = 0.02  # nats by which a regret may be above another one and still be called the same
_TIMES_FASTER = 5
_ABOVE = 0.001  # what is printed above 0
_TOO_LITTLE = 0.03  # of coverage


def aims(findings: Findings, told: Told) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    yield from _aims_of_rankings(told)
    counted = findings.estimate(tuning.NAME, tuning.KIND, tuning.EXTRACTIONS)
    yield _row(f"tuning: {tuning.N_TRIALS} trials on one extraction", counted, least=1, most=1.1, signed=False)
    for n_labels in text.N_LABELS:
        for kind in text.HEADS:
            found = findings.difference(text.part_of(n_labels), kind, text.WORDS, text.ACCURACY)
            yield _row(f"{text.part_of(n_labels)}: {kind} above {text.WORDS}", found, least=_ABOVE)
    yield _row("encoding: as fast as sentence-transformers", median_speed(findings), least=1.0, signed=False)
    far = findings.estimate(encoding.NAME, encoding.OWN, encoding.DISTANCE)
    yield _row("encoding: equal within 1e-5 (in units of 1e-5)", far, most=1.0, signed=False)
    for head in groups.HEADS:
        covered = findings.estimate(groups.NAME, groups.kind_of(head, groups.WITH), groups.COVERED)
        aim = f"groups: sets of {head} {groups.WITH} cover {100 * groups.COVERAGE:.0f} % of new patients, less 3"
        yield _row(aim, covered, least=groups.COVERAGE - _TOO_LITTLE, signed=False)


def median_speed(findings: Findings) -> Estimate | None:
    """Estimate how many times faster texts are encoded: the median over runs, with the standard error of their mean."""
    ours, theirs = (findings.values(encoding.NAME, kind, encoding.SECONDS) for kind in (encoding.OWN, encoding.OTHER))
    ratios = [theirs[run] / seconds for run, seconds in ours.items() if run in theirs]
    if (mean := Estimate.of(ratios)) is None:
        return None
    return Estimate(median(ratios), mean.error, mean.largest)


def _aims_of_rankings(told: Told) -> Iterator[list[str]]:
    for way in (ALL, PRETRAINED_ONLY):
        found = _less(told.worth(way, GP), told.worth(way, CROSS_VALIDATION), "regrets")
        yield _row(f"ranking, {way}: regret of {GP} within .02 nats of {CROSS_VALIDATION}", found, most=_MARGIN)
    faster = told.faster(GP, CROSS_VALIDATION)
    yield _row(f"ranking: {GP} takes a fifth of its time", faster, least=_TIMES_FASTER, signed=False)
    for simple in (SIZE, ACCURACY):
        ours, theirs = (told.worth(PRETRAINED_ONLY, ranking) for ranking in (GP, simple))
        found = _less(ours, theirs, "correlations")
        yield _row(f"ranking, {PRETRAINED_ONLY}: rank correlation above that of {simple}", found, least=_ABOVE)
        yield _row(
            f"ranking, {PRETRAINED_ONLY}: regret below that of {simple}", _less(ours, theirs, "regrets"), most=-_ABOVE
        )


def _less(ours: Worth, other: Worth, what: str) -> Estimate | None:
    """Estimate by how much ours is above another one, paired by draw."""
    return Estimate.of(getattr(ours, what) - getattr(other, what))


def _row(aim: str, found: Estimate | None, *, least: float = -inf, most: float = inf, signed: bool = True) -> list[str]:
    """Judge what is printed, so that both say the same."""
    if found is None:
        return [aim, "", "not measured"]
    is_met = least <= round(found.mean, DIGITS) <= most
    return [aim, found.signed if signed else str(found), "met" if is_met else _MISSED]
