"""`Benchmark`: the command line of a benchmark of parts."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.adapters.cells import CELLS, Result, read_results
from benchmarks.options import positive
from benchmarks.parts.report import write
from benchmarks.parts.runs import measure_part, part_named

__all__ = ["Benchmark"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Benchmark:
    """The benchmark `name`: modules `parts` of the package benchmarks.NAME, told in docs/benchmarks/NAME.md.

    `head` is the page's beginning, in which {torch} and {commits} stand for a version and for what was measured.
    """

    name: str
    parts: tuple[str, ...]
    head: str

    def main(self, arguments: Sequence[str], description: str | None) -> None:
        """Measure what is missing in some parts, and write the report of all that was measured so far."""
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks {self.name}", description=description)
        parser.add_argument("--parts", nargs="+", choices=self.parts, default=list(self.parts), help="only these")
        parser.add_argument("--seeds", type=positive, help="how many draws (each part has its own default)")
        parser.add_argument("--only-report", action="store_true", help="measure nothing")
        folder, page = _ROOT / "build" / self.name, _ROOT / "docs" / "benchmarks" / f"{self.name}.md"
        parser.add_argument("--folder", type=Path, default=folder, help="what was measured so far")
        parser.add_argument("--report", type=Path, default=page)
        options = parser.parse_args(arguments)
        if not options.only_report:
            for name in options.parts:
                measure_part(part_named(self.name, name), options.folder, options.seeds)
        self.report(read_results(options.folder / CELLS), options.report)

    def report(self, results: Sequence[Result], file: Path) -> None:
        """Write the page of what was measured."""
        measured = {result.cell.part.partition(",")[0] for result in results}
        write(self.head, [part_named(self.name, name) for name in self.parts if name in measured], results, file)
