"""Processes killed while they save: what is left is the model before or the one after, whole, and nothing stays.

A repurposer (as a directory and as one file), the features of a network, and the checkpoints of a training are saved
over and over by a process that is killed at a random moment. Then what is there is loaded and judged, saved once more,
and the files are counted.
"""

import argparse
import itertools
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model_handler import Features
from repurpose import LrRepurposer, load
from repurpose.training.checkpoints.checkpoints import Checkpoints

# Beside manifest and card, a lock and the arrays of two generations; one file; the last two checkpoints.
_MOST_FILES = {"save_repurposer": 3, "save_repurposer, .zip": 1, "Features.save": 1, "checkpoints": 2}
_ALWAYS = ("README.md", "manifest.json")


class NumberedRepurposer(LrRepurposer):
    """Learns a `number_` too, as a class of a user's may."""


@dataclass(frozen=True)
class Saving:
    """How the number of an attempt is saved in a folder, and read from what is there."""

    save: Callable[[Path, int], None]
    read: Callable[[Path], int]


def savings() -> dict[str, Saving]:
    """Each of the ways to save."""
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Identity())
    X, y = rng.normal(size=(300, 200)).astype(np.float32), np.arange(300) % 3
    repurposer = NumberedRepurposer(network, ["0"], c=1.0).repurpose(X, y)

    def save_repurposer(folder: Path, number: int, name: str = "saved") -> None:
        repurposer.number_ = np.full(50_000, number)
        repurposer.batch_size = 1 + number
        repurposer.save_repurposer(folder / name)

    def read_repurposer(folder: Path, name: str = "saved") -> int:
        loaded = load(folder / name, network)
        return _only(loaded.number_, loaded.batch_size - 1)

    def save_features(folder: Path, number: int) -> None:
        Features({"a": np.full((2000, 50), number)}, np.full(2000, number)).save(folder / "features.safetensors")

    def read_features(folder: Path) -> int:
        loaded = Features.load(folder / "features.safetensors")
        return _only(loaded.matrix, *loaded.labels[:1].tolist())

    def save_checkpoint(folder: Path, number: int) -> None:
        state = {"weights": torch.full((100_000,), float(number)), "epoch": number}
        Checkpoints(folder / "checkpoints").save(state, number, {"seed": "0"})

    def read_checkpoint(folder: Path) -> int:
        state = Checkpoints(folder / "checkpoints").load({"seed": "0"})
        if state is None:
            raise FileNotFoundError("no checkpoint")
        return _only(state["weights"].numpy(), state["epoch"])

    return {
        "save_repurposer": Saving(save_repurposer, read_repurposer),
        "save_repurposer, .zip": Saving(
            partial(save_repurposer, name="saved.zip"), partial(read_repurposer, name="saved.zip")
        ),
        "Features.save": Saving(save_features, read_features),
        "checkpoints": Saving(save_checkpoint, read_checkpoint),
    }


def _only(array: np.ndarray, number: int) -> int:
    """The number that all of the array is. Raises ValueError where parts of two were read."""
    if not (array == number).all():
        raise ValueError("parts of two savings")
    return int(number)


def _save_on(saving: Saving, folder: Path, first: int) -> None:
    for number in itertools.count(first):
        saving.save(folder, number)


def killed(saving: Saving, n_kills: int, seed: int, most_files: int) -> tuple[int, int, int]:
    """How many models were lost, how many were of two savings, and how often files stayed after the next saving."""
    rng, context = random.Random(seed), multiprocessing.get_context("fork")
    lost = mixed = left = 0
    with tempfile.TemporaryDirectory() as name:
        folder, last = Path(name), 0
        saving.save(folder, last)
        for _ in range(n_kills):
            process = context.Process(target=_save_on, args=(saving, folder, last), daemon=True)
            process.start()
            time.sleep(rng.uniform(0, 0.06))
            process.kill()
            process.join()
            try:
                last = max(last, saving.read(folder))
            except ValueError:
                mixed += 1
            except OSError:
                lost += 1
            last += 1
            saving.save(folder, last)
            files = [path.name for path in folder.rglob("*") if path.is_file()]
            files = [file for file in files if file not in _ALWAYS]
            left += len(files) > most_files
    return lost, mixed, left


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args(arguments)
    print("| saved | kills | lost | damaged or mixed | files left after the next saving |\n|---|---|---|---|---|")
    for name, saving in savings().items():
        lost, mixed, left = killed(saving, given.kills, seed=0, most_files=_MOST_FILES[name])
        print(f"| {name} | {given.kills} | {lost} | {mixed} | {left} |", flush=True)


if __name__ == "__main__":
    main()
