"""Trainings that `test_data_parallel` runs in one process and in two; as a script, it writes what each process got.

Run by ``torchrun --nproc-per-node 2 -m tests.repurpose.training.distributed.torchrun_trainings FOLDER``.
"""

import copy
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from model_handler.errors import ModelError
from repurpose import NeuralNetworkRepurposer
from repurpose.domain.distillation.distilling_repurposer import DistillingRepurposer
from repurpose.training.callbacks import Callback
from repurpose.training.distributed import data_parallel
from repurpose.training.frozen import caching
from repurpose.training.frozen.activations import Activations
from repurpose.training.frozen.frozen import FrozenPart
from tests.repurpose.training.examples import rows
from tests.repurpose.training.two_streams import PooledRepurposer, TwoStreamRepurposer

RANK, N = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
GLOBAL = 16  # rows in a batch of all processes
WEIGHTS = {0: 1.0, 1: 3.0, 2: 0.5}
NAMED = {"0.spare": 0.1, "*": 0.1}
FURTHER = ("validation_data", "source_data")  # what `repurpose` takes beside the data


class Network(nn.Module):
    """Has a layer that nothing uses, and nothing whose result depends on how rows are dealt."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.spare = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(inputs)).relu()).tanh()


def standing_in() -> nn.Module:
    """A layer of a network that runs that of another network."""
    network, other = Network(), Network()
    network.first.forward = other.first.forward  # type: ignore[method-assign]
    return network


class Stop(Callback):
    def step(self, state: Any, loss: float) -> bool | None:
        return True if state.step == 5 else None


class Headed(NeuralNetworkRepurposer):
    """The network with a linear layer on top; nothing is traced, so that many trainings are quick."""

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        return nn.Sequential(copy.deepcopy(self.source_model), nn.Linear(8, 3))


class Distilled(DistillingRepurposer, Headed):
    """Stays near what it gave at first, and to what its labels say."""

    def _frozen_network(self, module: nn.Module) -> nn.Module:
        return copy.deepcopy(module)

    def _distillation_loss(self, output: Any, answers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (weights * (output - answers).square().sum(dim=1)).sum() / weights.sum()


class FailsOnOne(Headed):
    def _training_loss(self, module: nn.Module, inputs: Any, targets: torch.Tensor) -> torch.Tensor:
        if RANK == 1 and len(inputs) < GLOBAL // N:
            raise RuntimeError("no more of this")
        return super()._training_loss(module, inputs, targets)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(zip(*map(torch.from_numpy, rows(50))))


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What is decided about the frozen part."""
    decisions: list[str] = []
    say = FrozenPart._say

    def tell(part: FrozenPart, decision: str, **options: Any) -> None:
        decisions.append(decision)
        say(part, decision, **options)

    with mock.patch.object(FrozenPart, "_say", tell):
        yield decisions


def trained(network: nn.Module, data: Any, **options: Any) -> dict[str, Any]:
    """Weights, history, what was warned of and what was decided about the frozen part."""
    method, further = options.pop("method", Headed), {name: options.pop(name) for name in FURTHER if name in options}
    given = {"num_epochs": 3, "optimizer": "SGD", "optimizer_params": {"learning_rate": 0.3}, "random_state": 0}
    with warnings.catch_warnings(record=True) as caught, overheard() as decisions:
        warnings.simplefilter("always")
        repurposer = method(network, batch_size=GLOBAL // N, verbose=False, **{**given, **options})
        repurposer.repurpose(data, **further)
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in repurposer.history_]
    state = {name: tensor.numpy() for name, tensor in repurposer.target_model_.state_dict().items()}
    return {
        "weights": state,
        "history": records,
        "ending": repurposer.history_.ending,
        "warnings": [str(warning.message) for warning in caught if warning.category is UserWarning],
        "decisions": decisions,
    }


def loader(n_rows: int) -> DataLoader:
    X, y = map(torch.from_numpy, rows(n_rows))
    return DataLoader(TensorDataset(X, y), batch_size=GLOBAL // N, shuffle=True)


def in_order(n_rows: int) -> DataLoader:
    X, y = map(torch.from_numpy, rows(n_rows))
    return DataLoader(TensorDataset(X, y), batch_size=GLOBAL // N)


HEAD: dict[str, Any] = {"learning_rates": {"1": 0.3, "*": 0}, "optimizer_params": None}
TOP: dict[str, Any] = {"learning_rates": {"0.second": 0.1, "1": 0.3, "*": 0}, "optimizer_params": None}
EXACT = {"folded": False}


def with_frozen_part(folder: Path) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """Trainings of networks whose first layers are frozen, by `cache_frozen`."""

    def on_disk(cache: Any) -> dict[str, Any]:
        options = {"memory": 0, "directory": str(folder)}
        return trained(Network(), rows(67), cache_frozen=cache and {**cache, **options}, **HEAD)

    judged = {**TOP, "validation_data": rows(35, seed=2), "early_stopping": 2, "ema": 0.8, "num_epochs": 6}
    later = {**TOP, "unfreeze": {"0.second": 2}, "num_epochs": 5}
    pooled: dict[str, Any] = {**TOP, "method": PooledRepurposer, "source_data": rows(28, seed=3)}
    return {
        "the head": lambda cache: trained(Network(), rows(69), cache_frozen=cache, **HEAD),
        "the top": lambda cache: trained(Network(), rows(65), cache_frozen=cache, accumulation=3, **TOP),
        "the top, distilled": lambda cache: trained(
            Network(), rows(67), cache_frozen=cache, method=Distilled, class_weight=WEIGHTS, **TOP
        ),
        "the head, on disk": on_disk,
        "the top, judged": lambda cache: trained(Network(), rows(64), cache_frozen=cache, **judged),
        "judged by one row": lambda cache: trained(
            Network(), rows(40), cache_frozen=cache, validation_data=rows(1, seed=2), **HEAD
        ),
        "unfrozen in the middle": lambda cache: trained(Network(), rows(69), cache_frozen=cache, **later),
        "the top, a loader": lambda cache: trained(Network(), in_order(72), cache_frozen=cache, **TOP),
        "the top, two streams": lambda cache: trained(Network(), rows(72), cache_frozen=cache, **pooled),
        "each batch, drawn": lambda cache: trained(
            Network(), rows(69), cache_frozen=cache, augmentation=lambda row: row * 1, **TOP
        ),
        "each batch, a stream": lambda cache: trained(
            Network(), DataLoader(Stream(), batch_size=GLOBAL // N), cache_frozen=cache, **TOP
        ),
        "on and on": lambda cache: in_parts(folder / f"{bool(cache)} of {N}", cache_frozen=cache, **TOP),
    }


def good(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """What two processes have to do as one does."""
    frozen = with_frozen_part(folder).items()
    unfreeze = {"unfreeze": {"0.first": 1, "0.norm": 2}, "num_epochs": 4}
    adam: dict[str, Any] = {"optimizer": "AdamW", "optimizer_params": {"learning_rate": 0.01}}
    sharded = {"distributed": "fsdp"}
    adam.update(clip_norm=0.1, ema=0.9, l2_sp=0.1)
    two: dict[str, Any] = {"method": TwoStreamRepurposer, "source_data": rows(96, seed=3), "accumulation": 3}
    pooled: dict[str, Any] = {"method": PooledRepurposer, "source_data": rows(28, seed=3)}
    return {
        "whole batches": lambda: trained(Network(), rows(64)),
        "an uneven last batch": lambda: trained(Network(), rows(64 + 5)),
        "three last rows": lambda: trained(Network(), rows(64 + 3)),
        "one last row": lambda: trained(Network(), rows(64 + 1)),
        "class weights": lambda: trained(Network(), rows(61), class_weight=WEIGHTS),
        "distilled": lambda: trained(Network(), rows(69), method=Distilled),
        "distilled, a loader": lambda: trained(Network(), in_order(72), method=Distilled),
        "accumulation": lambda: trained(Network(), rows(90), accumulation=3),
        "unfreezing": lambda: trained(Network(), rows(69), **unfreeze),
        "AdamW, clipped, averaged, drawn": lambda: trained(Network(), rows(69), **adam),
        "validation": lambda: trained(
            Network(), rows(64), num_epochs=20, validation_data=rows(35, seed=2), early_stopping=2
        ),
        "a fraction": lambda: trained(Network(), rows(83), validation_fraction=0.3, early_stopping=3),
        "a loader": lambda: trained(Network(), in_order(72)),
        "a stream": lambda: trained(Network(), DataLoader(Stream(), batch_size=GLOBAL // N)),
        "a callback": lambda: trained(Network(), rows(69), callbacks=[Stop()]),
        "sharded": lambda: trained(Network(), rows(64 + 3), **{**sharded, "accumulation": 3}),
        "sharded, AdamW, judged": lambda: trained(
            Network(), rows(69), **{**adam, **sharded, "ema": None}, validation_data=rows(35), early_stopping=1
        ),
        "a shuffling loader": lambda: trained(Network(), loader(72)),
        "judged by a shuffling loader": lambda: trained(Network(), rows(64), validation_data=loader(72)),
        "a shuffling loader, kept": lambda: trained(Network(), loader(72), cache_frozen=EXACT, **TOP),
        "sharded, a loader": lambda: trained(Network(), in_order(72), **sharded),
        "two streams": lambda: trained(Network(), rows(64), **two),
        "two streams put together": lambda: trained(Network(), rows(72), **pooled),
        "two streams put together, sharded": lambda: trained(Network(), rows(72), **{**pooled, **sharded}),
        "two streams, resumed": lambda: in_parts(folder / f"streams of {N}", data=rows(64), **two),
        "checkpoints": lambda: in_parts(folder / f"checkpoints of {N}"),
        **{f"{name}, kept": partial(make, EXACT) for name, make in frozen},
        **{f"{name}, whole": partial(make, False) for name, make in frozen},
    }


PARTS: list[Any] = []


def see_parts(state: Any, record: dict[str, Any]) -> None:
    PARTS.append({name: tuple(weight.to_local().shape) for name, weight in state.module.named_parameters()})


class Interruption(Exception):
    pass


def interrupt(state: Any, record: dict[str, Any]) -> None:
    if record["epoch"] == 1:
        raise Interruption("by the first process alone")


def in_parts(folder: Path, data: Any = None, **more: Any) -> dict[str, Any]:
    """The main process fails; then all resume."""
    options = {"checkpoint_dir": folder, "ema": 0.9, **more}
    data = rows(69) if data is None else data
    try:
        trained(Network(), data, callbacks=[interrupt], **options)
    except Interruption:
        return trained(Network(), data, **options)
    raise AssertionError("it went on")


def others(folder: Path) -> dict[str, Callable[[], Any]]:
    """What differs between one and two, or fails."""
    torch.manual_seed(0)
    normalised = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 8))
    X, y = rows(40)
    wild = np.where(np.arange(40)[:, None] % 40 == 3, np.float32(np.inf), X).astype(np.float32)
    written: list[int] = []

    def head(data: Any = (), cache: Any = EXACT, **options: Any) -> Any:
        return trained(Network(), data or rows(69), cache_frozen=cache, **HEAD, **options)

    return {
        "normalisation": lambda: trained(normalised, rows(64)),
        "no seed": lambda: trained(Network(), rows(40), random_state=None),
        "alone": lambda: trained(Network(), rows(40), distributed=None, random_state=RANK),
        "written": lambda: (trained(Network(), rows(40), callbacks=[lambda *_: written.append(1)]), written)[1],
        "an error of one": lambda: FailsOnOne(Network(), batch_size=8, random_state=0).repurpose(*rows(40)),
        "an unreadable row of one": lambda: trained(Network(), Unreadable()),
        "a stand-in": lambda: trained(standing_in(), rows(40)),
        "unused and named": lambda: trained(Network(), rows(40), learning_rates=NAMED, optimizer_params=None),
        "other data": lambda: trained(Network(), rows(40 + RANK)),
        "infinite": lambda: trained(Network(), (wild, y)),
        "parts": lambda: (trained(Network(), rows(40), distributed="fsdp", callbacks=[see_parts]), PARTS)[1],
        "infinite, sharded": lambda: trained(Network(), (wild, y), distributed="fsdp"),
        "too few batches": lambda: trained(Network(), in_order(6)),
        "a directory": lambda: trained(Network(), rows(40), checkpoint_dir=folder / "file"),
        "an unreadable row of one, frozen": lambda: head(Unreadable(38)),
        "a crash of one": lambda: failing("write", RuntimeError("gone"), head),
        "no room in one": lambda: failing("__init__", OSError("full"), head),
        "sizes of one": lambda: failing("write", ModelError("sizes"), head),
        "no room in one, wanted": lambda: failing("__init__", OSError("full"), lambda: head(cache=True)),
        "little memory in one": lambda: with_little_memory(head),
        "sharded, frozen": lambda: head(cache="auto", distributed="fsdp"),
        "sharded, wanted": lambda: head(cache=True, distributed="fsdp"),
    }


def failing(method: str, error: Exception, train: Callable[[], Any]) -> Any:
    """A training in which the second process cannot keep its activations."""
    with mock.patch.object(Activations, method, side_effect=error) if RANK == 1 else nullcontext():
        return train()


def with_little_memory(train: Callable[[], Any]) -> Any:
    """A training in which the second process is on a machine that has next to none."""
    with mock.patch.object(data_parallel, "memory_budget", return_value=100 if RANK == 1 else 10**9):
        return train()


class Unreadable(torch.utils.data.Dataset):
    """Its rows are numbered; one of them can be read the first time only, when labels are looked at."""

    def __init__(self, row: int = 8) -> None:
        self.data, self.row, self.n_reads = rows(40), row, 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        self.n_reads += index == self.row
        if index == self.row and self.n_reads > 1:
            raise OSError(f"row {index} is gone")
        return torch.from_numpy(self.data[0][index]), int(self.data[1][index])


def everything(folder: Path, names: list[str] | None = None) -> dict[str, Any]:
    """What each training gives, or its error."""
    found: dict[str, Any] = {}
    for name, make in {**good(folder), **(others(folder) if N > 1 else {})}.items():
        if names and name not in names:
            continue
        try:
            with mock.patch.dict(caching._FLOPS_PER_BYTE, {"in memory": 0, "on disk": 0}):  # none is too quick to keep
                found[name] = make()
        except Exception as error:
            found[name] = (type(error).__name__, str(error), getattr(error, "__notes__", []))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    (target / "file").write_text("")
    (target / f"{RANK} of {N}.pickle").write_bytes(pickle.dumps(everything(target, sys.argv[2:])))
