"""The state of a training is everything that changes while it runs, in one object, read and set as a `state_dict`."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model_handler.network.states import copied_state, load_state, state_of
from repurpose.training.history import History

__all__ = ["Snapshot", "Stateful", "TrainingState", "load_states", "states_of"]


class Stateful(Protocol):
    """What can be saved in a checkpoint, such as a module, an optimiser or a generator's owner."""

    def state_dict(self) -> dict[str, Any]:
        """Return what changes, as nested dicts of tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Set what `state_dict` returned, in place."""


def states_of(parts: Mapping[str, Stateful]) -> dict[str, dict[str, Any]]:
    """Copy the states of several parts, by name."""
    return {name: deepcopy(part.state_dict()) for name, part in parts.items()}


def load_states(parts: Mapping[str, Stateful], states: Mapping[str, dict[str, Any]]) -> None:
    """Set the states of several parts, in place; the states given stay as they are.

    Raises ValueError naming the part that does not take its state.
    """
    for name, part in parts.items():
        try:
            part.load_state_dict(deepcopy(states[name]))
        except Exception as error:  # of a class of the method's own
            raise ValueError(
                f"the saved part {name!r}, of {type(part).__name__}, does not take the state that it had: "
                f"{type(error).__name__}: {error}"
            ) from error


@dataclass(eq=False)
class Snapshot:
    """Weights and buffers as they were after an epoch and a step, and the validation loss, if there was one."""

    epoch: int
    step: int
    score: float | None
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module, epoch: int, step: int, score: float | None) -> "Snapshot":
        """Copy what the module holds now."""
        return cls(epoch, step, score, copied_state(module))


@dataclass(eq=False)
class TrainingState:
    """What a training has reached after `epoch` whole epochs and `step` steps of the optimiser.

    `average` is the moving average of the weights, or None. `kept` are the weights to fall back on: the best by
    validation with early stopping, otherwise those after the last epoch. No state of a generator is here: what an epoch
    draws depends on the seed and the number of the epoch alone.
    """

    module: nn.Module
    optimizer: Optimizer
    scheduler: Any
    average: Any = None
    epoch: int = 0
    step: int = 0
    kept: Snapshot | None = None
    history: History = field(default_factory=History)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and handed out: the average, where there is one."""
        return self.module if self.average is None else self.average.module

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as nested dicts of tensors and plain values; tensors are not copied."""
        return {
            "module": state_of(self.module),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": None if self.average is None else state_of(self.average),
            "epoch": self.epoch,
            "step": self.step,
            "kept": None if self.kept is None else vars(self.kept),
            "history": asdict(self.history),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all of it, in place. Raises what torch raises for weights of other names or shapes."""
        load_state(self.module, state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            load_state(self.average, state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.kept = None if state["kept"] is None else Snapshot(**state["kept"])
        self.history = History(**state["history"])
