"""The process group of distributed data parallel: processes started by `torchrun` or `accelerate launch`, torch's DDP.

The global batch is one batch of each process, and its gradient that of the mean over all its rows, however they are
split. At the beginning of a step, and before gradients are all-reduced, the processes all-reduce a few numbers, a flag
for failure among them, so that an error of one is raised by all and none waits in vain. The group is started by
`model_handler.processes`; which rows each process reads is in `sharded_batches`, and which activations of the frozen
part it computes in `frozen.caching`.
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
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import BatchSource, TrainingBatch
from repurpose.training.data.seeding import drawing_from
from repurpose.training.distributed.memory_budget import memory_budget
from repurpose.training.distributed.process_group import Loss, ProcessGroup, windows_of
from repurpose.training.distributed.sharded_batches import ShardedBatches, zero_weight_batch
from repurpose.training.distributed.sync_norm import check_sync, synchronised
from repurpose.training.plan.differences import differences
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["DataParallelGroup", "distributed_mistakes"]

T = TypeVar("T")
_OWN_STATISTICS = (
    "each process normalises its own rows (BatchNorm), so the result is not that of one process with as large batches; "
    "sync_norm=True normalises those of all, on GPUs; or freeze the normalisation"
)
_NAMES = ("forward_sync_buffers", "broadcast_buffers")  # the second one was the name before torch 2.14
_KNOWN = signature(nn.parallel.DistributedDataParallel).parameters
_OWN_BUFFERS: dict[str, Any] = {
    next(name for name in _NAMES if name in _KNOWN): False
}  # `broadcast_buffers` sends them


class DataParallelGroup(ProcessGroup):
    """The processes of a team, each with all weights: gradients are all-reduced by DDP.

    Parameters
    ----------
    team : Team
    device : torch.device
        The device on which the network is trained.
    sync_norm : bool
        Whether BatchNorm normalises the rows of all processes. Raises ModelError on CPUs.
    """

    def __init__(self, team: Team, device: torch.device, sync_norm: bool = False) -> None:
        if sync_norm:
            check_sync(device)
        self._team = team
        self._device = device
        self._sync_norm = sync_norm
        self.share = team.share
        self.n_processes = team.share.of
        self.is_main_process = team.is_main_process
        self.rank_seeds = (team.share.index,)
        self._wrapped: Any = None
        self._learning: tuple[str, ...] = ()
        self._in_collective = self._has_warned = False

    def shard(self, batches: BatchSource) -> BatchSource:
        sharded = {name: ShardedBatches(stream, self.share) for name, stream in batches.streams.items()}
        return batches.with_streams(sharded)

    def prepare_module(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        return _with_sync_norm(module) if self._sync_norm else nullcontext(module)

    def adapt_plan(self, plan: TrainingPlan) -> TrainingPlan:
        """Leave callbacks and progress to the main process."""
        return plan if self.is_main_process else replace(plan, callbacks=(), verbose=False)

    def check_same_on_all(self, configuration: Mapping[str, Any]) -> None:
        given = self._team.exchange(dict(configuration))
        for rank, of_rank in enumerate(given):
            if lines := differences(given[0], of_rank, "in process 0", f"in process {rank}"):
                listed = "\n".join(f"- {line}" for line in lines)
                raise ModelError(
                    f"the processes would train different things:\n{listed}\nall of them must make the same call with "
                    "the same data; distributed=None trains in each process by itself"
                )

    def from_main_process(self, find: Callable[[], T]) -> T:
        answers: list[Any] = self.gather(lambda: find() if self.is_main_process else None)
        return answers[0]

    def gather(self, find: Callable[[], T]) -> list[T]:
        with self.raise_on_all():
            found = find()
            self._all_reduce_or_raise()
        return self._team.exchange(found)

    @contextmanager
    def raise_on_all(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._team.is_over:  # over: the others know, as they raised it too or have ended
                self._announce_failure(error)
            if self._in_collective:
                raise ModelError(
                    f"process {self._team.share.index} failed while the others waited for it, and they cannot go on: "
                    f"{type(error).__name__}: {error}"
                ) from error
            raise

    def clear_error(self) -> None:
        self._team.is_over = False

    def all_reduce_sum(self, *values: float) -> list[float]:
        return self._all_reduce_or_raise(*values)[: len(values)]

    def memory_budget(self) -> int:
        """Divide the budget of each machine by the processes on it; the least of these is that of all."""
        budgets = self.gather(lambda: (platform.node(), memory_budget()))
        n_processes = Counter(machine for machine, _ in budgets)
        return min(budget // n_processes[machine] for machine, budget in budgets)

    def broadcast_parts(self, parts: Sequence[Iterable[Tensor]]) -> None:
        self._all_reduce_or_raise()
        self._in_collective = True
        for rank, part in enumerate(parts):
            for tensor in part:
                moved = tensor.to(self._device)  # NCCL broadcasts tensors on GPUs alone
                torch.distributed.broadcast(moved, src=rank)
                if moved is not tensor:
                    tensor.copy_(moved)
        self._in_collective = False

    def start_epoch(self, batches: Iterator[TrainingBatch], seed: int) -> Iterator[TrainingBatch]:
        with drawing_from(seed):  # a sampler draws its order before the first batch, alike on all processes
            first = list(islice(batches, 1))
        return chain(first, batches)

    def accumulation_windows(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        windows, last = windows_of(batches, size), None
        while True:
            with self.raise_on_all():
                window = next(windows, [])  # reading may fail on one process alone
            if not self.all_reduce_sum(len(window))[0]:
                return
            with self.raise_on_all():
                window = window or [zero_weight_batch(last)]
            last = window[0]
            yield window

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        learning = tuple(name for name, parameter in module.named_parameters() if parameter.requires_grad)
        if self._wrapped is not None and self._wrapped.module.module is module and learning == self._learning:
            return  # DDP plans its buckets of gradients when it is made, by what learns then
        self.unwrap()
        self._learning = learning
        self._warn_of_own_statistics(module)
        self._wrapped = nn.parallel.DistributedDataParallel(
            # layers may be left out by chance (stochastic depth), and DDP would wait for their gradients
            _TrainingLoss(module, loss),
            find_unused_parameters=True,
            **_OWN_BUFFERS,
        )

    @contextmanager
    def no_sync_unless_last(self, *, is_last: bool) -> Iterator[None]:
        with nullcontext() if is_last else self._wrapped.no_sync():
            yield

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self._wrapped(inputs, targets)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient, times the number of processes: DDP takes the mean over them where the sum is wanted."""
        if is_last:  # DDP's all-reduce of gradients has no place for an error: one must be told before it
            self._all_reduce_or_raise()
        self._in_collective = is_last
        (loss * self.n_processes).backward()
        self._in_collective = False

    def broadcast_buffers(self, *modules: nn.Module) -> None:
        with torch.no_grad():
            for module in modules:
                for buffer in module.buffers():
                    torch.distributed.broadcast(buffer, src=0)

    def unwrap(self) -> None:
        self._wrapped = None  # its hooks on the parameters end with it

    def _warn_of_own_statistics(self, module: nn.Module) -> None:
        if self.is_main_process and not self._has_warned and _has_own_statistics(module):
            self._has_warned = True
            warnings.warn(_OWN_STATISTICS, UserWarning, stacklevel=3)

    def _all_reduce_or_raise(self, *values: float) -> list[float]:
        """Sum up to two numbers over all processes. Raises the error of the first process that failed."""
        numbers = [0.0, *values, 0.0, 0.0][:3]  # always three, so that an all-reduce of one meets any of the others
        sums = self._all_reduce(numbers)
        if sums[0]:
            self._team.exchange()
        return sums[1:]

    def _announce_failure(self, error: Exception) -> None:
        """Flag the error at the next all-reduce; where others wait for a gradient, the launcher has to end them."""
        if not self._in_collective:
            self._all_reduce([1.0, 0.0, 0.0])
            self._team.exchange(error=error)
        self._team.is_over = True

    def _all_reduce(self, numbers: list[float]) -> list[float]:
        # in double precision counts of rows stay exact, and sums of losses are those of one process
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
    """The loss as a module, by which DDP sees every parameter that the loss uses, however it calls the network."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Compute the mean over the rows."""
        return self._loss(self.module, inputs, targets)


def distributed_mistakes(distributed: object, sync_norm: object) -> list[str]:
    """List what is wrong with the parameters."""
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
    """Tell whether BatchNorm in it learns: its statistics are those of the rows of one process."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    return not all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
