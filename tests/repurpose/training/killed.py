"""Trainings that are killed: this process trains nothing itself, its children do, and it kills them with SIGKILL.

Run as ``python -m tests.repurpose.training.killed FOLDER``; `test_checkpoints` looks at what is left in the folder.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch.optim imports it at the first step, which would take each child seconds
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from repurpose import NeuralNetworkFineTuneRepurposer
from tests.repurpose.training.examples import rows

N_KILLS = 3


def source() -> nn.Module:
    """With everything whose state moves in training: normalisation's statistics, dropout."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))


def loader() -> DataLoader:
    """Shuffled by a generator of its own, which no seed of ours reaches."""
    X, y = map(torch.from_numpy, rows(60))
    return DataLoader(TensorDataset(X, y), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(7))


def train(folder: Path, checkpoint_dir: Path | None, name: str = "") -> None:
    repurposer = NeuralNetworkFineTuneRepurposer(
        source(),
        "4",
        num_epochs=8,
        optimizer_params={"learning_rate": 0.02},
        unfreeze={"0": 3},
        early_stopping=8,
        ema=0.9,
        random_state=0,
        verbose=False,
        checkpoint_dir=checkpoint_dir,
    )
    repurposer.repurpose(loader(), validation_data=rows(30, seed=1))
    if name:
        save_file(dict(repurposer.target_model_.state_dict()), folder / f"{name}.safetensors")


def in_a_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """The signal that ended a child process, or 0; it is killed after some seconds."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a child failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def dies_in(function: str, call: int, *, after: bool) -> None:
    """Let this process be killed in its `call`-th call of a function of `os`, before it does anything or after."""
    original, n_calls = getattr(os, function), 0

    def deadly(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if n_calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, function, deadly)


def train_and_die(folder: Path, function: str, call: int, after: bool) -> None:
    dies_in(function, call, after=after)
    train(folder, folder / "in a write")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    started = time.monotonic()
    in_a_child(partial(train, folder, None, "uninterrupted"))
    duration = time.monotonic() - started
    signals = []
    for _ in range(N_KILLS):
        moment = random.uniform(0.2, 0.6) * duration
        signals.append(in_a_child(partial(train, folder, folder / "at random"), kill_after=moment))
    in_a_child(partial(train, folder, folder / "at random", "at random"))
    for deadly in [("fsync", 4, False), ("replace", 3, False), ("replace", 4, True), ("unlink", 3, True)]:
        signals.append(in_a_child(partial(train_and_die, folder, *deadly)))
    in_a_child(partial(train, folder, folder / "in a write", "in a write"))
    print("signals:", *signals)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
