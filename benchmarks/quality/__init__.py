"""Quality: what every head says of real images of which few are labelled, and of images that belong to no class.

`images` has features and splits, `heads` the methods that are compared, `cells` one training and what it is worth,
`runs` all of them, which can be interrupted; `findings` and `aims` sum up, `report` writes docs/benchmarks/heads.md.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import existing_file, positive

__all__ = ["main"]

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing, print the aims, and write the report."""
    from benchmarks.quality.cells import ALL, Cell
    from benchmarks.quality.findings import Findings
    from benchmarks.quality.heads import METHODS
    from benchmarks.quality.images import TASKS
    from benchmarks.quality.report import print_aims, write
    from benchmarks.quality.runs import measure, read_results

    methods = {method.title: method for method in METHODS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one; may be repeated")
    parser.add_argument("--method", choices=methods, action="append", help="only this one; may be repeated")
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 5, 10, 50, ALL], help=f"a class; {ALL} for all")
    parser.add_argument("--seeds", type=positive, default=20, help="how many splits")
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="processes, of one thread each")
    parser.add_argument("--cache", type=Path, help="a directory in which features are kept")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "build" / "quality.jsonl", help="what was measured so far"
    )
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmarks" / "heads.md")
    parser.add_argument("--before", type=existing_file, help="results of the same splits before a change")
    options = parser.parse_args(arguments)
    cells = [
        Cell(task, n_labels, seed, method)
        for seed in range(options.seeds)
        for n_labels in options.labels
        for task in options.task or TASKS
        for method in options.method or methods
        if n_labels != ALL or methods[method].with_all
    ]
    measure(cells, options.results, cache=options.cache, n_workers=options.workers)
    findings = Findings(read_results(options.results))
    print_aims(findings)
    write(findings, options.report, Findings(read_results(options.before)) if options.before else None)
