"""Which source and which layer, text as well as images: rankings beside what is reached, tuning, few labels, groups.

`ranking`, `tuning`, `text`, `encoding` and `groups` are parts, whose cells are kept as they end; `images` has the image
sources and their features, `scores` what ranks them, `told` what the rankings are worth, `aims` judges, and `report`
writes docs/benchmarks/sources.md. Cells are those of the `adapters` benchmark.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import positive

__all__ = ["main"]

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing in some parts, and write the report of all that was measured so far."""
    from benchmarks.adapters.cells import CELLS, read_results
    from benchmarks.sources.report import write
    from benchmarks.sources.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks sources", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, help="how many draws (each part has its own default, 1 to 20)")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "sources", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "sources.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, options.seeds)
    write(read_results(options.folder / CELLS), options.report)
