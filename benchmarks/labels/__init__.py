"""Labels: which are wrong, which to ask for next, rows and classes that come and go, an alarm for a stream.

`errors`, `suggestions`, `updates` and `alarm` are parts: each says what it measures (`kinds`), measures one kind on one
draw (`examine`), and tells and judges it (`section`, `aims`). `runs` measures what is missing, `verdicts` has how an
aim is judged, and `report` writes docs/benchmarks/labels.md. Cells are those of the `adapters` benchmark.
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
    from benchmarks.labels.report import write
    from benchmarks.labels.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks labels", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, help="how many draws (each part has its own default)")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "labels", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "labels.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, options.seeds)
    write(read_results(options.folder / CELLS), options.report)
