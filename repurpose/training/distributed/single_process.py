"""Alone: what a training asks of the processes that make it, where there is one.

`processes` answers the same for several; so the loop does not ask how many there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor, nn

from model_handler.data import Share
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.frozen.activations import memory_budget
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["Alone", "Loss"]

T = TypeVar("T")
Loss = Callable[[nn.Module, Any, Tensor], Tensor]


class Alone:
    """One process by itself: what `Crew` does in common, it does alone."""

    n_processes = 1
    leads = True
    share = Share()  # of what is dealt
    own_numbers: tuple[int, ...] = ()  # of its seeds
    holds_whole_weights = True  # it computes with the parameters that the module has, and not with copies in parts

    def dealt(self, batches: TrainingBatches) -> TrainingBatches:
        """What this process reads of the batches."""
        return batches

    def planned(self, plan: TrainingPlan) -> TrainingPlan:
        """The plan as this process follows it."""
        return plan

    def agree(self, configuration: Mapping[str, Any]) -> None:
        """Raise ModelError unless all processes are about to do the same."""

    def told(self, find: Callable[[], T]) -> T:
        """What the leading process finds, known to all."""
        return find()

    def answers(self, find: Callable[[], T]) -> list[T]:
        """What each process finds, by rank, known to all."""
        return [find()]

    def agreed(self, find: Callable[[], tuple[T, str]]) -> tuple[T, str]:
        """What this process finds, and what the first one that objects has to say, or ""."""
        found: list[T] = []

        def objection() -> str:
            own, said = find()
            found.append(own)
            return said

        objections = self.answers(objection)
        return found[0], next(filter(None, objections), "")

    def together(self) -> AbstractContextManager[None]:
        """What one process raises inside, all raise."""
        return nullcontext()

    def recovered(self) -> None:
        """All have dealt with an error that all raised."""

    def total(self, *values: float) -> list[float]:
        """The sums of up to two numbers over all processes."""
        return list(values)

    def memory(self) -> int:
        """How many bytes each process may keep in memory where nothing else is said."""
        return memory_budget()

    def spread(self, parts: Sequence[Iterable[Tensor]]) -> None:
        """Give all processes, in place, the tensors that one of them has: the parts by the ranks of those."""

    def opened(self, batches: Iterator[TrainingBatch], seed: int) -> Iterator[TrainingBatch]:
        """The batches; the order that a sampler draws for them is the same for all processes, from `seed`."""
        return batches

    def rounds(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        """The batches, `size` at a time and in the end fewer, as often for each process."""
        batches = iter(batches)
        while window := list(islice(batches, size)):
            yield window

    def prepared(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        """The module as this process trains it."""
        return nullcontext(module)

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        """Be ready to train those parameters of the module that require a gradient now."""
        self._module, self._training_loss = module, loss

    def gathering(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Around each piece of a step: gradients add up, and are exchanged after the last one."""
        return nullcontext()

    def loss(self, inputs: Any, targets: Tensor) -> Tensor:
        """The training loss of a piece."""
        return self._training_loss(self._module, inputs, targets)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Compute the gradient of a piece's share of the mean over all rows."""
        loss.backward()

    def level(self, *modules: nn.Module) -> None:
        """Give all processes the buffers of the leading one, in place."""

    def unwrap(self) -> None:
        """Let go of the module."""
        self._module = nn.Identity()
