"""Whether a mean meets an aim that was set before anything was measured."""

from math import inf

from benchmarks.quality.findings import DIGITS, Estimate

__all__ = ["MISSED", "judged"]

MISSED = "**missed**"


def judged(
    aim: str, found: Estimate | None, *, least: float = -inf, most: float = inf, signed: bool = False
) -> list[str]:
    """Return the row of an aim: what is printed is judged, so that both say the same."""
    if found is None:
        return [aim, "", "not measured"]
    is_met = least <= round(found.mean, DIGITS) <= most
    return [aim, found.signed if signed else str(found), "met" if is_met else MISSED]
