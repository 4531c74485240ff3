"""Deployment: files of ONNX beside the library, extraction to shards, heads on a million rows, engines and a service.

`parity`, `extraction`, `large_heads`, `engines` and `service` are parts (`benchmarks.parts`), told in
docs/benchmarks/deploy.md.
"""

from collections.abc import Sequence

from benchmarks.parts.benchmark import Benchmark

__all__ = ["BENCHMARK", "main"]

_HEAD = """# Deployment

Written by `python -m benchmarks deploy` with torch {torch}, measured at commit {commits}; do not edit it by hand. Each
cell is kept in `build/deploy` and not measured again; each part runs alone (`--parts`). Figures are means over draws
with standard errors in brackets. What the parts of the library are for is in [deploy.md](../deploy.md).
"""
_PARTS = ("parity", "extraction", "large_heads", "engines", "service")
BENCHMARK = Benchmark("deploy", _PARTS, _HEAD)


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing in some parts, and write the report of all that was measured so far."""
    BENCHMARK.main(arguments, __doc__)
