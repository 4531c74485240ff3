"""Transfer between domains: every method with its defaults, on a known bias, on digits of two kinds, on new classes.

`bias`, `labels`, `features`, `networks`, `classes` and `relations` are parts: each draws data, trains one kind on one
draw, and says what it is worth. `images` has the small images and networks, `runs` measures what is missing, `aims`
judges, and `report` writes docs/benchmarks/domains.md. Cells are those of the `adapters` benchmark.
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
    from benchmarks.domains.report import write
    from benchmarks.domains.runs import PARTS, measure_part

    parser = argparse.ArgumentParser(prog="python -m benchmarks domains", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--seeds", type=positive, help="how many draws (each part has its own default, 5 or 30)")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "domains", help="what was measured so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "domains.md")
    options = parser.parse_args(arguments)
    if not options.only_report:
        for name in options.parts:
            measure_part(name, options.folder, options.seeds)
    write(read_results(options.folder / CELLS), options.report)
