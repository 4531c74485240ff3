"""The process group of one process, in which every collective returns what this process has."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from torch import Tensor, nn

from model_handler.data import Share
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import BatchSource, TrainingBatch
from repurpose.training.distributed.memory_budget import memory_budget
from repurpose.training.distributed.process_group import Loss, ProcessGroup, windows_of
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["SingleProcess"]

T = TypeVar("T")


class SingleProcess(ProcessGroup):
    """One process: nothing is exchanged."""

    n_processes = 1
    is_main_process = True
    share = Share()
    rank_seeds: tuple[int, ...] = ()

    def shard(self, batches: BatchSource) -> BatchSource:
        return batches

    def adapt_plan(self, plan: TrainingPlan) -> TrainingPlan:
        return plan

    def check_same_on_all(self, configuration: Mapping[str, Any]) -> None:
        pass

    def from_main_process(self, find: Callable[[], T]) -> T:
        return find()

    def gather(self, find: Callable[[], T]) -> list[T]:
        return [find()]

    def raise_on_all(self) -> AbstractContextManager[None]:
        return nullcontext()

    def clear_error(self) -> None:
        pass

    def all_reduce_sum(self, *values: float) -> list[float]:
        return list(values)

    def memory_budget(self) -> int:
        return memory_budget()

    def broadcast_parts(self, parts: Sequence[Iterable[Tensor]]) -> None:
        pass

    def start_epoch(self, batches: Iterator[TrainingBatch], seed: int) -> Iterator[TrainingBatch]:
        return batches

    def accumulation_windows(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        return windows_of(batches, size)

    def prepare_module(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        return nullcontext(module)

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        self._module, self._training_loss = module, loss

    def no_sync_unless_last(self, *, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self._training_loss(self._module, inputs, targets)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        loss.backward()

    def broadcast_buffers(self, *modules: nn.Module) -> None:
        pass

    def unwrap(self) -> None:
        self._module = nn.Identity()
