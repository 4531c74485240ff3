"""The aims that were set before anything was measured, and whether the means meet them."""

from collections.abc import Iterator, Sequence

from benchmarks.adapters.findings import Findings
from benchmarks.domains import bias, features
from benchmarks.domains.features import ACCURACY, DIRECTIONS, SOURCE
from benchmarks.quality.findings import Estimate

__all__ = ["MISSED", "aims"]

MISSED = "**missed**"
GAIN, LOSS = 0.03, 0.02


def aims(findings: Findings) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    yield from _aims_of_bias(findings)
    for direction in DIRECTIONS:
        part, kinds = features.part_of(direction), [kind for kind in features.METHODS if kind != SOURCE]
        yield from _aims_of_direction(findings, part, kinds)


def _aims_of_bias(findings: Findings) -> Iterator[list[str]]:
    for kind in bias.ESTIMATED:
        kept = findings.estimate(bias.NAME, kind, bias.KEPT)
        yield _row(f"known bias: {kind} leaves at most half of MMD^2", kept, kept and kept.mean <= 0.5, signed=False)
        rank = findings.estimate(bias.NAME, kind, bias.CORRELATION)
        yield _row(f"known bias: {kind}, rank correlation at least .4", rank, rank and rank.mean >= 0.4, signed=False)
        loss = findings.difference(bias.NAME, kind, bias.UNWEIGHTED, bias.LOSS)
        yield _row(f"known bias: log loss of {kind} not above unweighted", loss, loss and loss.mean <= 0)


def _aims_of_direction(findings: Findings, part: str, kinds: Sequence[str]) -> Iterator[list[str]]:
    """Judge that one method gains 3 points on source only, and that none loses more than 2."""
    ahead = {kind: found for kind in kinds if (found := findings.difference(part, kind, SOURCE, ACCURACY))}
    best = max(ahead, key=lambda kind: ahead[kind].mean, default=None)
    worst = min(ahead, key=lambda kind: ahead[kind].mean, default=None)
    found = ahead[best] if best else None
    aim = f"{part}: one method 3 points above {SOURCE}"
    yield _row(f"{aim} ({best})" if best else aim, found, found and found.mean >= GAIN)
    found = ahead[worst] if worst else None
    aim = f"{part}: none more than 2 points below {SOURCE}"
    yield _row(f"{aim} (lowest: {worst})" if worst else aim, found, found and found.mean >= -LOSS)


def _row(aim: str, found: Estimate | None, is_met: bool | None, *, signed: bool = True) -> list[str]:
    text = "" if found is None else found.signed if signed else str(found)
    return [aim, text, "not measured" if found is None else "met" if is_met else MISSED]
