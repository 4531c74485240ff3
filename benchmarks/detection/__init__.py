"""Detection: overfitting, what pretraining is worth, a perfect detector, throughput, and backbones that work.

`scenes` are the images of most parts; each part is a module of its own, whose results are kept as the cells of the
`adapters` benchmark are, and `report` writes docs/benchmarks/detection.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import positive

__all__ = ["main"]

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing in some parts, and write the report of all that was measured so far."""
    from benchmarks.detection.report import write
    from benchmarks.detection.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks detection", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, default=3, help="how many draws of scenes")
    parser.add_argument("--runs", type=positive, default=5, help="how often each side of `throughput` runs")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "detection", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "detection.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, n_seeds=options.seeds, runs=options.runs)
    write(options.folder, options.report)
