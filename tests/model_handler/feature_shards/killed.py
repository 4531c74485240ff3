"""Extraction is killed at random points and begun again, in processes that are forked of this one.

`python -m tests.model_handler.feature_shards.killed FOLDER N_KILLS SEED` prints, as JSON, whether the outcome equals
that of an unbroken run byte for byte, how many shards were finished at each kill, and whether one was written twice.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from model_handler import ModelHandler

ROWS_PER_SHARD, SECONDS = 8, 0.01  # of a batch of four


class Slow(nn.Module):
    """Takes its time; a module without children is run as it stands."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(SECONDS)
        return x * 2


def extract(folder: Path, n_rows: int) -> None:
    torch.manual_seed(0)
    network, data = nn.Sequential(nn.Linear(5, 7), Slow()), torch.rand(n_rows, 5)
    labels = [f"class {row % 3}" for row in range(n_rows)]
    ModelHandler(network, batch_size=4, verbose=False).extract_to(
        folder, (data, labels), ["0", "1"], rows_per_shard=ROWS_PER_SHARD
    )


def forked(folder: Path, n_rows: int) -> int:
    """Begin an extraction in a process of its own, and return its number."""
    if number := os.fork():
        return number
    try:
        extract(folder, n_rows)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Return which file each finished shard is."""
    shards = sorted(folder.glob("shard-*")) if folder.is_dir() else []
    return {shard.name: (shard.stat().st_ino, shard.stat().st_mtime_ns) for shard in shards}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")}


def _seconds(folder: Path, n_rows: int) -> float:
    started = time.monotonic()
    assert os.waitpid(forked(folder, n_rows), 0)[1] == 0
    return time.monotonic() - started


def main(folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # a fork of a process with more would wait for them
    rng = random.Random(seed)
    n_rows = ROWS_PER_SHARD * 4 * n_kills
    whole, start = (_seconds(folder / "unbroken", n_rows) for _ in range(2))  # the second finds all of it there
    finished: list[int] = []
    repeated: list[str] = []
    for _ in range(n_kills):
        before = written(folder / "killed")
        process = forked(folder / "killed", n_rows)
        time.sleep(start + (whole - start) * rng.uniform(0, 2) / (n_kills + 1))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        after = written(folder / "killed")
        repeated += [name for name, file in before.items() if after.get(name) != file]
        finished.append(len(after))
    before = written(folder / "killed")
    code = os.waitpid(forked(folder / "killed", n_rows), 0)[1]
    after = written(folder / "killed")
    repeated += [name for name, file in before.items() if after.get(name) != file]
    equal = contents(folder / "killed") == contents(folder / "unbroken")
    print(json.dumps({"equal": equal, "finished": finished, "repeated": repeated, "code": code, "n": len(after)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
