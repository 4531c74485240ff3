"""Labels: which are wrong, which to ask for next, rows and classes that come and go, an alarm for a stream.

`errors`, `suggestions`, `updates` and `alarm` are parts (`benchmarks.parts`), told in docs/benchmarks/labels.md.
"""

from collections.abc import Sequence

from benchmarks.parts.benchmark import Benchmark

__all__ = ["BENCHMARK", "main"]

_HEAD = """# Labels

Written by `python -m benchmarks labels` with torch {torch}, measured at commit {commits}; do not edit it by hand. Each
cell is kept in `build/labels` and not measured again; each part runs alone (`--parts`). Figures are means over draws
with standard errors in brackets; differences are paired by draw, and "won" counts the draws in which a kind is ahead.
One thread throughout. What the questions mean, and how they are answered, is in [labels.md](../labels.md).
"""
_PARTS = ("errors", "suggestions", "updates", "alarm")
BENCHMARK = Benchmark("labels", _PARTS, _HEAD)


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing in some parts, and write the report of all that was measured so far."""
    BENCHMARK.main(arguments, __doc__)
