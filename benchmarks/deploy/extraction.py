"""Extraction to shards beside extraction in memory: images a second, memory, and what 30 kills leave."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.timing import table_lines

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "extraction", 1
N_ROWS, _ROWS_PER_SHARD, _N_KILLS = 20_000, 500, 30
_MEMORY, _SHARDS, _KILLED = "extract", "extract_to", f"extract_to, killed {_N_KILLS} times"
_SPEED, _PEAK, _GROWTH = "images a second of the processor", "peak memory, MB", "memory above that before, MB"
_EQUAL, _REPEATED, _N_FINISHED = "equal byte for byte", "shards written twice", "finished at the last kill"
_SHARD_MEGABYTES = _ROWS_PER_SHARD * 5120 * 4 / 2**20


def missing() -> str:
    """Return what is not here, as part of a sentence."""
    return "" if hasattr(signal, "SIGKILL") else "processes cannot be killed here"


def kinds() -> list[tuple[str, str]]:
    """List the ways of extracting."""
    return [(NAME, kind) for kind in (_MEMORY, _SHARDS, _KILLED)]


def examine(cell: Cell, folder: Path) -> dict[str, float]:
    """Extract in a process of its own, or in many that are killed."""
    out = folder / "extraction" / f"{cell.kind}, {cell.seed}"
    shutil.rmtree(out, ignore_errors=True)
    if cell.kind == _KILLED:
        return _killed(out, folder / "extraction" / f"{_SHARDS}, {cell.seed}", cell.seed)
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
        f"process of its own. The last way is begun and killed (SIGKILL) at {_N_KILLS} random points, and then let "
        "end; its directory is compared with that of the unbroken one.",
        "",
    )
    names = (_SPEED, _PEAK, _GROWTH, _N_FINISHED, _REPEATED, _EQUAL)
    rows = []
    for _, kind in kinds():
        found = {name: findings.estimate(NAME, kind, name) for name in names}
        if any(found.values()):
            rows.append([kind, *("" if each is None else f"{each.mean:,.0f}" for each in found.values())])
    yield from table_lines(["way", *names], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge the outcome of the kills, and the memory."""
    yield judged("extraction: after 30 kills equal byte for byte", findings.estimate(NAME, _KILLED, _EQUAL), least=1.0)
    yield judged("extraction: no shard written twice", findings.estimate(NAME, _KILLED, _REPEATED), most=0.0)
    grown = findings.estimate(NAME, _SHARDS, _GROWTH)
    aim = "extraction: memory above that before, MB, at most a shard and a batch (two shards' worth)"
    yield judged(aim, grown, most=2 * _SHARD_MEGABYTES)
    speed = findings.ratio(NAME, _SHARDS, _MEMORY, _SPEED)
    yield judged(
        "extraction: images a second of the processor, as a part of those of extraction in memory", speed, least=0.9
    )


def _killed(out: Path, unbroken: Path, seed: int) -> dict[str, float]:
    rng, repeated = random.Random(seed), 0
    ready = _seconds_to_first_shard(out)
    for _ in range(_N_KILLS):
        before = _files(out)
        process = _process(str(out))
        time.sleep(ready + rng.uniform(0, 12))
        process.kill()
        process.communicate()
        repeated += _n_changed(before, out)
    before = _files(out)
    _process(str(out)).communicate()
    repeated += _n_changed(before, out)
    equal = _contents(out) == _contents(unbroken)
    return {_EQUAL: float(equal), _REPEATED: float(repeated), _N_FINISHED: float(len(before))}


def _seconds_to_first_shard(out: Path) -> float:
    """Begin an extraction, and kill it when its first shard is there, which took so many seconds."""
    started, process = time.perf_counter(), _process(str(out))
    while not _files(out) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    return time.perf_counter() - started


def _process(out: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.deploy.extracting", out, str(N_ROWS), str(_ROWS_PER_SHARD)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _files(out: Path) -> dict[str, tuple[int, int]]:
    shards = out.glob("shard-*") if out.is_dir() else ()
    return {shard.name: (shard.stat().st_ino, shard.stat().st_mtime_ns) for shard in shards}


def _n_changed(before: dict[str, tuple[int, int]], out: Path) -> int:
    after = _files(out)
    return sum(after.get(name) != file for name, file in before.items())


def _contents(out: Path) -> dict[str, str]:
    files = (file for file in sorted(out.iterdir()) if not file.name.startswith("."))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
