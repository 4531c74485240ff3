"""Extraction killed at random and begun again: `python -m benchmarks.deploy.killing OUT N SHARD N_KILLS SEED`.

The processes are forked of this one, which has imported everything and loaded the network, so that kills fall into the
work and not into its beginning; they are spread over the time that an unbroken extraction takes here and now.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from benchmarks.deploy.extracting import LAYER, Simulated, make_handler
from model_handler import ModelHandler

__all__ = ["EQUAL", "N_FINISHED", "REPEATED", "killed"]

EQUAL, REPEATED, N_FINISHED = "equal byte for byte", "shards written twice", "finished at the last kill"


def killed(out: Path, n_rows: int, rows_per_shard: int, n_kills: int, seed: int) -> dict[str, float]:
    """Extract once without a break and once with kills, and return what differs."""
    rng, handler, repeated = random.Random(seed), make_handler(), 0

    def begin(folder: Path) -> int:
        return _forked(handler, folder, n_rows, rows_per_shard)

    whole, nothing = (_seconds(begin(out / "unbroken")) for _ in range(2))  # the second finds all of it there
    for kill in range(n_kills + 1):
        before = _files(out / "killed")
        process = begin(out / "killed")
        if kill < n_kills:
            time.sleep(nothing + (whole - nothing) * rng.uniform(0, 2) / (n_kills + 1))
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        after = _files(out / "killed")
        repeated += sum(after.get(name) != file for name, file in before.items())
    equal = _contents(out / "killed") == _contents(out / "unbroken")
    return {EQUAL: float(equal), REPEATED: float(repeated), N_FINISHED: float(len(before))}


def _forked(handler: ModelHandler, out: Path, n_rows: int, rows_per_shard: int) -> int:
    """Begin an extraction in a process of its own, and return its number."""
    if number := os.fork():
        return number
    try:
        handler.extract_to(out, Simulated(n_rows), [LAYER], rows_per_shard=rows_per_shard)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _seconds(process: int) -> float:
    started = time.perf_counter()
    os.waitpid(process, 0)
    return time.perf_counter() - started


def _files(out: Path) -> dict[str, tuple[int, int]]:
    shards = out.glob("shard-*") if out.is_dir() else ()
    return {shard.name: (shard.stat().st_ino, shard.stat().st_mtime_ns) for shard in shards}


def _contents(out: Path) -> dict[str, str]:
    files = (file for file in sorted(out.iterdir()) if not file.name.startswith("."))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    print(json.dumps(killed(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
