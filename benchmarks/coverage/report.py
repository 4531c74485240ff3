"""The report of a sweep: the table by library, and docs/coverage.md."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.coverage.conformance import N_LAYERS, TOLERANCE
from benchmarks.coverage.networks import LIBRARIES
from benchmarks.coverage.sweep import Result

__all__ = ["BLOCKS_SECTION", "table", "write"]

BLOCKS_SECTION = re.compile(r"^## Blocks\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
"""What `benchmarks.coverage.blocks` writes, last in the file."""

_HEADER = ("library", "tried", "passed", "of these by hooks", "failed", "excluded")
_TITLES = {"torchvision": "torchvision", "timm": "timm", "huggingface": "transformers"}

_TEXT = f"""# Coverage

Written by `python -m benchmarks coverage` on torch {torch.__version__}; do not edit it by hand.

Every network is made with random weights and statistics (MiniLM with its own), so that no number is zero or alike
throughout, and then has to pass one check, `benchmarks/coverage/conformance.py`:

- names of layers are unique, and those that are paths are the modules there;
- features at {N_LAYERS} modules, up to {N_LAYERS} operations and 3 containers, spread evenly over the network, equal
  what forward hooks and a watch on torch's functions see in a plain call (largest difference {TOLERANCE:.0e} of the
  layer's largest value; where rounding takes it further, the same in double precision);
- `get_module()` of an unedited handler gives the same bits in evaluation;
- `truncate` where the last layer with a matrix of weights reads, then a new head: the trunk gives the very bits that
  this layer read, the edited network those of the head on them; keys and weights of the `state_dict` are the source's;
- everything frozen but the head and one BatchNorm, one step of SGD with momentum and weight decay in training mode
  changes the head and that BatchNorm, and no bit of any other parameter or buffer;
- without a graph, what needs one raises `UntraceableModelError`, which says why and what works;
- at the end the user's network has the same bits, modes, hooks, attributes and tensors.
"""


def table(results: Sequence[Result]) -> tuple[Sequence[str], list[list[object]]]:
    """Header and rows: how many of how many, by library and in all."""
    rows = [[_label(library, results), *_counts(_of(results, library))] for library in LIBRARIES]
    return _HEADER, [*rows, ["all", *_counts(results)]]


def write(results: Sequence[Result], file: Path) -> None:
    """Write the report in Markdown."""
    header, rows = table(results)
    lines = [_TEXT, f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    hooked = [result for result in results if result.backend == "by hooks"]
    lines += ["", "## Failed", "", *_listed([result for result in results if result.status == "failed"])]
    lines += ["", "## Excluded", "", *_listed([result for result in results if result.status == "excluded"])]
    lines += [
        "",
        "## By hooks",
        "",
        "Listing, features, freezing, `randomize`, `truncate` and a new head work; the rest",
    ]
    lines += ["needs a graph. Where tracing failed:", ""]
    lines += [f"- `{r.name}` ({_TITLES[r.library]}): {r.untraceable}" for r in hooked] or ["None."]
    for library in LIBRARIES:
        passed = [f"`{result.name}`" for result in _of(results, library) if result.status == "passed"]
        lines += ["", f"## Passed, {_TITLES[library]}", "", *_wrapped(passed)]
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = BLOCKS_SECTION.search(file.read_text()) if file.exists() else None  # `blocks` writes it, and no one else
    file.write_text("\n".join(lines) + "\n" + (f"\n{kept[0].rstrip()}\n" if kept else ""))


def _label(library: str, results: Sequence[Result]) -> str:
    versions = sorted({result.version for result in _of(results, library)})
    return f"{_TITLES[library]} {', '.join(versions)}".strip()


def _of(results: Sequence[Result], library: str) -> list[Result]:
    return [result for result in results if result.library == library]


def _counts(results: Sequence[Result]) -> list[object]:
    count = [result.status for result in results].count
    hooked = sum(result.status == "passed" and result.backend == "by hooks" for result in results)
    return [count("passed") + count("failed"), count("passed"), hooked, count("failed"), count("excluded")]


def _listed(results: Sequence[Result]) -> list[str]:
    return [f"- `{r.name}` ({_TITLES[r.library]}): {'; '.join(r.reasons.values())}" for r in results] or ["None."]


def _wrapped(names: Sequence[str], width: int = 120) -> list[str]:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) + 2 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {name},".strip()
    return [*lines[:-1], lines[-1].removesuffix(",") or "None."]
