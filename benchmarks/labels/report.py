"""The report of all cells: docs/benchmarks/labels.md, with the aims and a verdict on each."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.adapters.cells import Result
from benchmarks.adapters.findings import Findings
from benchmarks.labels.runs import PARTS, part_named
from benchmarks.timing import table_lines

__all__ = ["write"]

_HEAD = f"""# Labels

Written by `python -m benchmarks labels` with torch {torch.__version__}, measured at commit {{commits}}; do not edit it
by hand. Each cell is kept in `build/labels` and not measured again; each part runs alone (`--parts`). Figures are means
over draws with standard errors in brackets; differences are paired by draw, and "won" counts the draws in which a kind
is ahead. One thread throughout. What the questions mean, and how they are answered, is in [labels.md](../labels.md).
"""


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown, of the parts that were measured."""
    findings = Findings(results)
    commits = ", ".join(dict.fromkeys(result.commit for result in results)) or "none"
    measured = {result.cell.part.partition(",")[0] for result in results}
    parts = [part_named(name) for name in PARTS if name in measured]
    lines = [*_HEAD.format(commits=commits).splitlines(), "", "## Aims", ""]
    aims = [row for part in parts for row in part.aims(findings)]
    verdicts = Counter(verdict for _, _, verdict in aims)
    lines += table_lines(["aim", "found", "verdict"], aims)
    lines += ["", f"{', '.join(f'{n} {verdict}' for verdict, n in verdicts.most_common())}."]
    for part in parts:
        lines += part.section(findings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))
