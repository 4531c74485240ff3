"""Offsite-Tuning: an adapter is tuned against an emulator and plugged in, on three tasks, and what it costs.

`digits`, `text` and `convnet` are tasks, `sizes` measures files, time and memory; `sides` has what owner and data owner
do in each of them, and `report` writes docs/benchmarks/offsite.md. Cells are those of the `adapters` benchmark.
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
    from benchmarks.offsite.report import write
    from benchmarks.offsite.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks offsite", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, default=5, help="how many draws of each task, and runs of `sizes`")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "offsite", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "offsite.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, n_seeds=options.seeds)
    write(read_results(options.folder / CELLS), options.report)
