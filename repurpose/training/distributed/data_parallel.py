"""Processes: several of them, started by `torchrun` or `accelerate launch`, train one network together, by torch's DDP.

A batch of all of them is one of each, and its gradient that of the mean over all its rows, however they are dealt. At
the beginning of a step, and before gradients are exchanged, all meet: each adds a few numbers and says whether it
failed, so that an error of one is raised by all and none waits in vain. The group is started by
`model_handler.processes`; what each reads is in `sharing`, and what each computes of the frozen part in `keeping`.
"""

import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from inspect import signature
from itertools import chain, islice
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model_handler.errors import ModelError
from model_handler.processes import Team
from repurpose.training.checkpoints.checkpoints import differences
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.distributed.sharded_batches import SharedBatches, borrowed
from repurpose.training.distributed.single_process import Alone, Loss
from repurpose.training.distributed.sync_norm import check_sync, synchronised
from repurpose.training.frozen.activations import memory_budget
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["Crew", "crew_mistakes"]

T = TypeVar("T")
_OWN_STATISTICS = (
    "each process normalises its own rows (BatchNorm), so the result is not that of one process with as large batches; "
    "sync_norm=True normalises those of all, on GPUs; or freeze the normalisation"
)
_NAMES = ("forward_sync_buffers", "broadcast_buffers")  # the second one was the name before torch 2.14
_KNOWN = signature(nn.parallel.DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {next(name for name in _NAMES if name in _KNOWN): False}  # `level` sends them round


class Crew(Alone):
    """This process and the others of a team: all call the same methods in the same order.

    Parameters
    ----------
    team : Team
    device : torch.device
        Where the network is trained.
    sync_norm : bool
        Whether BatchNorm normalises the rows of all processes. Raises ModelError on CPUs.
    """

    def __init__(self, team: Team, device: torch.device, sync_norm: bool = False) -> None:
        if sync_norm:
            check_sync(device)
        self._team, self._device, self._sync_norm = team, device, sync_norm
        self.share, self.n_processes, self.leads = team.share, team.share.of, team.leads
        self.own_numbers = (team.share.index,)
        self._wrapped: Any = None
        self._learning: tuple[str, ...] = ()
        self._is_exchanging = self._has_warned = False

    def dealt(self, batches: TrainingBatches) -> TrainingBatches:
        return SharedBatches(batches, self._team.share)

    def prepared(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        return _with_sync_norm(module) if self._sync_norm else nullcontext(module)

    def planned(self, plan: TrainingPlan) -> TrainingPlan:
        """Only the leading process calls back and shows progress."""
        return plan if self.leads else replace(plan, callbacks=(), verbose=False)

    def agree(self, configuration: Mapping[str, Any]) -> None:
        given = self._team.exchange(dict(configuration))
        for rank, theirs in enumerate(given):
            if lines := differences(given[0], theirs, "in process 0", f"in process {rank}"):
                listed = "\n".join(f"- {line}" for line in lines)
                raise ModelError(
                    f"the processes would train different things:\n{listed}\nall of them must make the same call with "
                    "the same data; distributed=None trains in each process by itself"
                )

    def told(self, find: Callable[[], T]) -> T:
        answers: list[Any] = self.answers(lambda: find() if self.leads else None)
        return answers[0]

    def answers(self, find: Callable[[], T]) -> list[T]:
        with self.together():
            found = find()
            self._meet()
        return self._team.exchange(found)

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._team.is_over:
                self._announce(error)
            if self._is_exchanging:
                raise ModelError(
                    f"process {self._team.share.index} failed while the others waited for it, and they cannot go on: "
                    f"{type(error).__name__}: {error}"
                ) from error
            raise

    def recovered(self) -> None:
        self._team.is_over = False

    def total(self, *values: float) -> list[float]:
        return self._meet(*values)[: len(values)]

    def memory(self) -> int:
        """Of each machine an equal part for each process on it; the least of these for all."""
        budgets = self.answers(lambda: (platform.node(), memory_budget()))
        n_processes = Counter(machine for machine, _ in budgets)
        return min(budget // n_processes[machine] for machine, budget in budgets)

    def spread(self, parts: Sequence[Iterable[Tensor]]) -> None:
        self._meet()
        self._is_exchanging = True
        for rank, part in enumerate(parts):
            for tensor in part:
                moved = tensor.to(self._device)
                torch.distributed.broadcast(moved, src=rank)
                if moved is not tensor:
                    tensor.copy_(moved)
        self._is_exchanging = False

    def opened(self, batches: Iterator[TrainingBatch], seed: int) -> Iterator[TrainingBatch]:
        with drawing_from(seed):  # samplers draw before the first batch
            first = list(islice(batches, 1))
        return chain(first, batches)

    def rounds(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        windows, last = super().rounds(batches, size), None
        while True:
            with self.together():
                window = next(windows, [])
            if not self.total(len(window))[0]:
                return
            with self.together():
                window = window or [borrowed(last)]
            last = window[0]
            yield window

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        learning = tuple(name for name, parameter in module.named_parameters() if parameter.requires_grad)
        if self._wrapped is not None and self._wrapped.module.module is module and learning == self._learning:
            return
        self.unwrap()
        self._learning = learning
        self._warn_of_own_statistics(module)
        self._wrapped = nn.parallel.DistributedDataParallel(
            _TrainingLoss(module, loss), find_unused_parameters=True, **_OWN_BUFFERS
        )

    @contextmanager
    def gathering(self, *, is_last: bool) -> Iterator[None]:
        with nullcontext() if is_last else self._wrapped.no_sync():
            yield

    def loss(self, inputs: Any, targets: Tensor) -> Tensor:
        return self._wrapped(inputs, targets)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """DDP takes the mean over the processes, where the sum is wanted."""
        if is_last:
            self._meet()
        self._is_exchanging = is_last
        (loss * self.n_processes).backward()
        self._is_exchanging = False

    def level(self, *modules: nn.Module) -> None:
        with torch.no_grad():
            for module in modules:
                for buffer in module.buffers():
                    torch.distributed.broadcast(buffer, src=0)

    def unwrap(self) -> None:
        self._wrapped = None  # its hooks on the parameters end with it

    def _warn_of_own_statistics(self, module: nn.Module) -> None:
        if self.leads and not self._has_warned and _has_own_statistics(module):
            self._has_warned = True
            warnings.warn(_OWN_STATISTICS, UserWarning, stacklevel=3)

    def _meet(self, *values: float) -> list[float]:
        """The sums of the numbers of all. Raises the error of the first process that failed."""
        numbers = [0.0, *values, 0.0, 0.0][:3]
        sums = self._sum(numbers)
        if sums[0]:
            self._team.exchange()
        return sums[1:]

    def _announce(self, error: Exception) -> None:
        """Let the others know at their next meeting; where they wait for a gradient, the launcher has to end them."""
        if not self._is_exchanging:
            self._sum([1.0, 0.0, 0.0])
            self._team.exchange(error=error)
        self._team.is_over = True

    def _sum(self, numbers: list[float]) -> list[float]:
        on_device = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        try:
            torch.distributed.all_reduce(on_device)
        except RuntimeError as problem:
            self._team.is_over = True
            raise ModelError(
                f"process {self._team.share.index} of {self.n_processes} waited in vain for the others, one of which "
                f"has ended: {problem}"
            ) from problem
        return on_device.tolist()


class _TrainingLoss(nn.Module):
    """The loss as a module, so that DDP sees every parameter which it uses, however it calls the network."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, inputs: Any, targets: Tensor) -> Tensor:
        """The mean over the rows."""
        return self._loss(self.module, inputs, targets)


def crew_mistakes(distributed: Any, sync_norm: Any) -> list[str]:
    """What is wrong with the parameters."""
    if sync_norm not in (True, False) or (sync_norm and distributed == "fsdp"):
        return [f"sync_norm must be True or False, and with distributed='fsdp' False, got {sync_norm!r}"]
    if distributed in ("ddp", "fsdp", None):
        return []
    return [f"distributed must be 'ddp', 'fsdp' or None, got {distributed!r}"]


@contextmanager
def _with_sync_norm(module: nn.Module) -> Iterator[nn.Module]:
    with synchronised(module):
        yield module


def _has_own_statistics(module: nn.Module) -> bool:
    """Whether BatchNorm in it learns: its statistics are those of the rows of one process."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    return not all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
