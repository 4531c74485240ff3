"""The aims that were set before anything was measured, and whether the means meet them."""

from collections.abc import Iterator, Sequence
from math import inf

from benchmarks.adapters.findings import Findings
from benchmarks.domains import bias, classes, features, labels, networks, relations
from benchmarks.domains.features import ACCURACY, DIRECTIONS, SOURCE
from benchmarks.quality.findings import DIGITS, Estimate

__all__ = ["aims"]

_MISSED = "**missed**"
GAIN, LOSS = 0.03, 0.02
_ABOVE = 0.001  # what is printed above 0


def aims(findings: Findings) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    yield from _aims_of_bias(findings)
    yield from _aims_of_labels(findings)
    for where in (features, networks):
        kinds = [kind for kind in where.METHODS if kind != SOURCE]
        for direction in DIRECTIONS:
            yield from _aims_of_direction(findings, where.part_of(direction), kinds)
    yield from _aims_of_classes(findings)
    for kind in relations.LOSSES:
        found = findings.difference(relations.NAME, kind, relations.ALONE, ACCURACY)
        yield _row(f"{relations.NAME}: neighbours of {kind} better than alone", found, least=_ABOVE)


def _aims_of_bias(findings: Findings) -> Iterator[list[str]]:
    for kind in bias.ESTIMATED:
        kept = findings.estimate(bias.NAME, kind, bias.KEPT)
        yield _row(f"known bias: {kind} leaves at most half of MMD^2", kept, most=0.5, signed=False)
        rank = findings.estimate(bias.NAME, kind, bias.CORRELATION)
        yield _row(f"known bias: {kind}, rank correlation at least .4", rank, least=0.4, signed=False)
        loss = findings.difference(bias.NAME, kind, bias.UNWEIGHTED, bias.LOSS)
        yield _row(f"known bias: log loss of {kind} not above unweighted", loss, most=0)
        covered = findings.estimate(bias.NAME, kind, bias.COVERED)
        yield _row(f"known bias: sets of {kind} cover 95 %", covered, least=bias.COVERAGE, signed=False)


def _aims_of_labels(findings: Findings) -> Iterator[list[str]]:
    for n_per_class in labels.N_PER_CLASS:
        for other in (labels.TARGET, labels.POOLED):
            found = findings.difference(labels.part_of(n_per_class), labels.BOOSTED, other, ACCURACY)
            aim = f"{labels.part_of(n_per_class)}: {labels.BOOSTED} above {other}"
            yield _row(aim, found, least=_ABOVE)


def _aims_of_classes(findings: Findings) -> Iterator[list[str]]:
    for part in classes.BOTH:
        kept = findings.difference(part, classes.LWF, classes.FINE_TUNED, classes.OLD_ACCURACY)
        yield _row(f"{part}: LwF keeps 15 points more of the old task", kept, least=0.15)
        new = findings.difference(part, classes.LWF, classes.FINE_TUNED, ACCURACY)
        yield _row(f"{part}: LwF's new task within 2 points of fine-tuning", new, least=-LOSS)
    for start in classes.STARTS:
        pair = (f"{classes.MULTI}, {start}", f"{classes.TARGET}, {start}")
        found = findings.difference(classes.FEW, *pair, ACCURACY)
        yield _row(f"{classes.FEW}: {pair[0]}, 3 points above {classes.TARGET}", found, least=GAIN)


def _aims_of_direction(findings: Findings, part: str, kinds: Sequence[str]) -> Iterator[list[str]]:
    """Judge that one method gains 3 points on source only, and that none loses more than 2."""
    ahead = {kind: found for kind in kinds if (found := findings.difference(part, kind, SOURCE, ACCURACY))}
    best = max(ahead, key=lambda kind: ahead[kind].mean, default=None)
    worst = min(ahead, key=lambda kind: ahead[kind].mean, default=None)
    found = ahead[best] if best else None
    aim = f"{part}: one method 3 points above {SOURCE}"
    yield _row(f"{aim} ({best})" if best else aim, found, least=GAIN)
    found = ahead[worst] if worst else None
    aim = f"{part}: none more than 2 points below {SOURCE}"
    yield _row(f"{aim} (lowest: {worst})" if worst else aim, found, least=-LOSS)


def _row(aim: str, found: Estimate | None, *, least: float = -inf, most: float = inf, signed: bool = True) -> list[str]:
    """Judge what is printed, so that both say the same."""
    if found is None:
        return [aim, "", "not measured"]
    is_met = least <= round(found.mean, DIGITS) <= most
    return [aim, found.signed if signed else str(found), "met" if is_met else _MISSED]
