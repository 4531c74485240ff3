"""The report of all cells: a page with the aims, a verdict on each, and a section of each part."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.parts.runs import Part
from benchmarks.timing import table_lines

__all__ = ["write"]


def write(head: str, parts: Sequence[Part], results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings = Findings(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    lines = [*head.format(torch=torch.__version__, commits=commits).splitlines(), "", "## Aims", ""]
    aims = [row for part in parts for row in part.aims(findings)]
    verdicts = Counter(verdict for _, _, verdict in aims)
    lines += table_lines(["aim", "found", "verdict"], aims)
    lines += ["", f"{', '.join(f'{n} {verdict}' for verdict, n in verdicts.most_common())}."]
    for part in parts:
        lines += part.section(findings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))
