"""Coverage: every network of torchvision, timm and Hugging Face that can be made here, against what is promised.

`conformance` has the check, which the tests use too; `networks` the list; `sweep` runs one process a network; `report`
writes docs/coverage.md, and `blocks` its section on blocks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> None:
    """Sweep, print the table, and write it for the documentation once all libraries are through."""
    from benchmarks.coverage.networks import LIBRARIES
    from benchmarks.coverage.report import table, write
    from benchmarks.coverage.sweep import read_results, sweep
    from benchmarks.timing import print_table

    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage", description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, action="append", help="only this one; may be repeated")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these networks, tried anew")
    parser.add_argument("--again", action="store_true", help="try anew what was tried before")
    parser.add_argument("--seconds", type=float, default=600, help="time limit for one network")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "coverage.jsonl", help="what was found so far")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "coverage.md")
    parser.add_argument("--blocks", action="store_true", help="look for blocks alone, and write that section alone")
    options = parser.parse_args(arguments)
    if options.blocks:
        _blocks(options)
        return
    for library in options.library or LIBRARIES:
        sweep(library, options.results, only=options.only, again=options.again, seconds=options.seconds)
    results = read_results(options.results)
    print_table(*table(results))
    write(results, options.report)


def _blocks(options: argparse.Namespace) -> None:
    from benchmarks.coverage.blocks import blocks_table, read_blocks, sweep_blocks, write_blocks
    from benchmarks.coverage.networks import LIBRARIES
    from benchmarks.timing import print_table

    file = options.results.with_name("blocks.jsonl")
    for library in options.library or LIBRARIES:
        sweep_blocks(library, file, only=options.only)
    results = read_blocks(file)
    print_table(*blocks_table(results))
    write_blocks(results, options.report)
