"""Extraction to shards beside extraction in memory: images a second, memory, and what 30 kills leave."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.deploy.killing import EQUAL, N_FINISHED, REPEATED
from benchmarks.parts.verdicts import judged
from benchmarks.timing import table_lines

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "extraction", 1
N_ROWS, _ROWS_PER_SHARD = 20_000, 500
_N_ROWS_KILLED, _ROWS_PER_SHARD_KILLED, _N_KILLS = 960, 24, 30
_MEMORY, _SHARDS, _KILLED = "extract", "extract_to", f"extract_to, killed {_N_KILLS} times"
_SPEED, _PEAK, _GROWTH = "images a second of the processor", "peak memory, MB", "memory above that before, MB"
_SHARD_MEGABYTES = _ROWS_PER_SHARD * 5120 * 4 / 2**20


def missing() -> str:
    """Return what is not here, as part of a sentence."""
    return "" if hasattr(os, "fork") else "processes cannot be forked here"


def kinds() -> list[tuple[str, str]]:
    """List the ways of extracting."""
    return [(NAME, kind) for kind in (_MEMORY, _SHARDS, _KILLED)]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Extract in a process of its own, or in many that are killed."""
    out = folder / "extraction" / f"{cell.kind}, {cell.seed}"
    shutil.rmtree(out, ignore_errors=True)
    if cell.kind == _KILLED:
        return _killed(out, cell.seed)
    found = json.loads(_process("memory" if cell.kind == _MEMORY else str(out)).communicate()[0])
    return {_SPEED: N_ROWS / found["seconds"], _PEAK: found["peak"], _GROWTH: found["peak"] - found["before"]}


def section(findings: Findings) -> Iterator[str]:
    """Yield the section of the report."""
    yield from (
        "",
        "## Extraction",
        "",
        f"{N_ROWS:,} simulated images of 64 x 64 pixels through EfficientNet-Lite0, of the 5,120 numbers before its "
        f"pooling, on one thread; shards of {_ROWS_PER_SHARD} rows have {_SHARD_MEGABYTES:.0f} MB. Each way has a "
        f"process of its own. The last way has {_N_ROWS_KILLED} images in shards of {_ROWS_PER_SHARD_KILLED}; it is "
        f"begun and killed (SIGKILL) at {_N_KILLS} random points, and then let end, and its directory is compared with "
        "that of an unbroken one.",
        "",
    )
    names = (_SPEED, _PEAK, _GROWTH, N_FINISHED, REPEATED, EQUAL)
    rows = []
    for _, kind in kinds():
        found = {name: findings.estimate(NAME, kind, name) for name in names}
        if any(found.values()):
            rows.append([kind, *("" if each is None else f"{each.mean:,.0f}" for each in found.values())])
    yield from table_lines(["way", *names], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge the outcome of the kills, and the memory."""
    yield judged("extraction: after 30 kills equal byte for byte", findings.estimate(NAME, _KILLED, EQUAL), least=1.0)
    yield judged("extraction: no shard written twice", findings.estimate(NAME, _KILLED, REPEATED), most=0.0)
    grown = findings.estimate(NAME, _SHARDS, _GROWTH)
    aim = "extraction: memory above that before, MB, at most a shard and a batch (two shards' worth)"
    yield judged(aim, grown, most=2 * _SHARD_MEGABYTES)
    speed = findings.ratio(NAME, _SHARDS, _MEMORY, _SPEED)
    yield judged(
        "extraction: images a second of the processor, as a part of those of extraction in memory", speed, least=0.9
    )


def _process(out: str) -> subprocess.Popen[str]:
    return _started("extracting", out, str(N_ROWS), str(_ROWS_PER_SHARD))


def _killed(out: Path, seed: int) -> dict[str, float]:
    numbers = map(str, (_N_ROWS_KILLED, _ROWS_PER_SHARD_KILLED, _N_KILLS, seed))
    outcome: dict[str, float] = json.loads(_started("killing", str(out), *numbers).communicate()[0])
    return {name: outcome[name] for name in (EQUAL, REPEATED, N_FINISHED)}


def _started(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"benchmarks.deploy.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
