"""Adapters: every way between a new head and a network tuned whole, on four tasks, and what each of them costs.

`steering`, `convnet` and `text` are tasks, `cost` measures time and memory; `methods` has what is compared, `cells`
keeps what was measured, and `report` writes docs/benchmarks/adapters.md from it.
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
    from benchmarks.adapters.report import write
    from benchmarks.adapters.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks adapters", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, default=5, help="how many draws of each task")
    parser.add_argument("--runs", type=positive, default=5, help="how often each side of `cost` runs")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "adapters", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "adapters.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, n_seeds=options.seeds, runs=options.runs)
    write(read_results(options.folder / CELLS), options.report)
