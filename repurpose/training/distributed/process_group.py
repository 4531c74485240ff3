"""A process group is what a training asks of the processes that run it, be it one or several.

All processes of a group call the same methods in the same order, as for torch's collectives; so the loop does not ask
how many there are. `single_process` answers for one, `data_parallel` and `fully_sharded` for several.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor, nn

from model_handler.data import Share
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import BatchSource, TrainingBatch
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["Loss", "ProcessGroup", "windows_of"]

T = TypeVar("T")
Loss = Callable[[nn.Module, Inputs, Tensor], Tensor]


class ProcessGroup(ABC):
    """The processes that train one network, as one of them sees it.

    Attributes
    ----------
    n_processes : int
        The world size.
    is_main_process : bool
        Whether this process has rank 0: it alone calls back, writes files and shows progress.
    share : Share
        The rank and the world size, by which data is split.
    rank_seeds : tuple of int
        What this process adds to its seeds, so that each draws its own dropout masks: its rank, or nothing.
    holds_whole_weights : bool
        Whether the process computes with the parameters that the module has, and not with copies in shards.
    """

    n_processes: int
    is_main_process: bool
    share: Share
    rank_seeds: tuple[int, ...]
    holds_whole_weights: bool = True

    @abstractmethod
    def shard(self, batches: BatchSource) -> BatchSource:
        """Return the part of the batches that this process reads, as a `DistributedSampler` would."""

    @abstractmethod
    def adapt_plan(self, plan: TrainingPlan) -> TrainingPlan:
        """Return the plan as this process follows it."""

    @abstractmethod
    def check_same_on_all(self, configuration: Mapping[str, Any]) -> None:
        """Raise ModelError unless all processes have the same configuration (`all_gather_object`)."""

    @abstractmethod
    def from_main_process(self, find: Callable[[], T]) -> T:
        """Return on all processes what `find` returns on the main one, which alone calls it (`broadcast`)."""

    @abstractmethod
    def gather(self, find: Callable[[], T]) -> list[T]:
        """Return on all processes what `find` returns on each, by rank (`all_gather_object`)."""

    def gather_first_objection(self, find: Callable[[], tuple[T, str]]) -> tuple[T, str]:
        """Return this process's result of `find`, and the first objection of all processes (`all_gather_object`).

        `find` returns a result and an objection, "" for none.
        """
        results: list[T] = []

        def objection() -> str:
            result, own_objection = find()
            results.append(result)
            return own_objection

        objections = self.gather(objection)
        return results[0], next(filter(None, objections), "")

    @abstractmethod
    def raise_on_all(self) -> AbstractContextManager[None]:
        """Raise on all processes, at their next collective, an error that one of them raises in this block."""

    @abstractmethod
    def clear_error(self) -> None:
        """Take the group into use again, after all processes have handled an error that `raise_on_all` shared."""

    @abstractmethod
    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sum up to two numbers over all processes (`all_reduce`)."""

    @abstractmethod
    def memory_budget(self) -> int:
        """Return how many bytes of activations each process may keep in memory, unless the plan says so."""

    @abstractmethod
    def broadcast_parts(self, parts: Sequence[Iterable[Tensor]]) -> None:
        """Fill, in place on all processes, the tensors of `parts[rank]` with the values of that rank (`broadcast`)."""

    @abstractmethod
    def start_epoch(self, batches: Iterator[TrainingBatch], seed: int) -> Iterator[TrainingBatch]:
        """Return the batches; a sampler draws their order from `seed`, the same on all processes."""

    @abstractmethod
    def accumulation_windows(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        """Group the batches into lists of `size`, as many lists on each process (`all_reduce` before each)."""

    @abstractmethod
    def prepare_module(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        """Give, for a block, the module as this process trains it; what it learned is in `module` after the block."""

    @abstractmethod
    def wrap(self, module: nn.Module, loss: Loss) -> None:
        """Prepare to train those parameters of the module that require a gradient now."""

    @abstractmethod
    def no_sync_unless_last(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Add up the gradients of the pieces that run inside, and all-reduce them in the last one (`DDP.no_sync`)."""

    @abstractmethod
    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Compute the training loss of a piece."""

    @abstractmethod
    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient of a piece; that of the last one is summed over all processes (`all_reduce` by DDP)."""

    @abstractmethod
    def broadcast_buffers(self, *modules: nn.Module) -> None:
        """Set the buffers of the modules to those of the main process, in place (`broadcast`)."""

    @abstractmethod
    def unwrap(self) -> None:
        """Release the module that `wrap` prepared."""


def windows_of(batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
    """Group the batches into lists of `size`, the last one shorter."""
    batches = iter(batches)
    while window := list(islice(batches, size)):
        yield window
