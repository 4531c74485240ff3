"""Heads on what does not fit: a million rows of 256 features from shards, and parts beside all rows at once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.timing import table_lines

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "large_heads", 1
_MANY, _FEW = f"{NAME}, 1,000,000 rows", f"{NAME}, 20,000 rows"
_LARGE = {f"{head}, {n} classes": (head, 256, n) for n in (10, 100) for head in ("LR", "GP")}
_BESIDE = {
    "LR from shards, 256 features": ("LR", 256, 10),
    "LR from shards, 1,280 features": ("LR", 1280, 10),
    "LR by minibatches, 256 features": ("LR by minibatches", 256, 10),
    "LR by minibatches, 1,280 features": ("LR by minibatches", 1280, 10),
    "GP from shards, 256 features": ("GP", 256, 10),
}
_SECONDS, _BUSY, _PEAK, _LOSS = "seconds", "seconds of the processor", "peak memory, GB", "log loss"
_EXACT, _ABOVE, _APART = "log loss of all at once", "log loss above it", "largest difference of a probability"


def missing() -> str:
    """Return what is not here, as part of a sentence."""
    return "" if Path("/proc/self/status").exists() else "memory is read from /proc, which is not here"


def kinds() -> list[tuple[str, str]]:
    """List the heads at each size."""
    return [*((_FEW, kind) for kind in _BESIDE), *((_MANY, kind) for kind in _LARGE)]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Write the shards where they are not there yet, and train in a process of its own."""
    head, n_features, n_classes = {**_BESIDE, **_LARGE}[cell.kind]
    n_rows = 1_000_000 if cell.part == _MANY else 20_000
    shards = folder / NAME / f"{n_rows} x {n_features}, {n_classes} classes, {cell.seed}"
    for task in ("write", head):
        command = [sys.executable, "-m", "benchmarks.deploy.large_head", task, str(shards)]
        numbers = [n_rows, n_features, n_classes, cell.seed]
        printed = subprocess.run([*command, *map(str, numbers)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: float(value) for name, value in json.loads(printed).items()}


def section(findings: Findings) -> Iterator[str]:
    """Yield the section of the report."""
    yield from (
        "",
        "## Heads on what does not fit",
        "",
        "Simulated features (rectified mixtures of 30 latent Gaussians a class) in shards of 10,000 rows, read by a "
        "process of its own on one thread; its peak memory has what the libraries take, some .7 GB. Log loss is on "
        "10,000 other rows. Of 20,000 rows the same head is trained on all at once, too: LR at c=0.1, minibatches of "
        "1,000 rows in one pass, of which only 10,000 stay; the GP through 1,000 inducing points.",
    )
    for part, measures in ((_FEW, (_EXACT, _ABOVE, _APART, _BUSY)), (_MANY, (_SECONDS, _BUSY, _PEAK, _LOSS))):
        rows = []
        for kind in findings.kinds(part):
            found = [findings.estimate(part, kind, name) for name in measures]
            rows.append([kind, *("" if each is None else f"{each.mean:.3g}" for each in found)])
        yield from ("", part.partition(", ")[2] + ":", "")
        yield from table_lines(["head", *measures], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge time and memory of a million rows, and the log loss beside that of all rows at once."""
    for kind in _BESIDE:
        if kind.startswith("LR"):
            above = findings.estimate(_FEW, kind, _ABOVE)
            yield judged(
                f"large heads: {kind}, log loss above that of all rows at once", above, most=0.005, signed=True
            )
    apart = findings.estimate(_FEW, "GP from shards, 256 features", _APART)
    yield judged(
        "large heads: GP from shards, largest difference of a probability from all rows at once", apart, most=0
    )
    for kind in _LARGE:
        yield judged(
            f"large heads: {kind}, seconds of the processor for 1,000,000 x 256",
            findings.estimate(_MANY, kind, _BUSY),
            most=900,
        )
        yield judged(f"large heads: {kind}, peak memory, GB", findings.estimate(_MANY, kind, _PEAK), most=2.0)
