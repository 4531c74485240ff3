"""The objective: what a training minimises, how its rows weigh in a mean, and what counts as right on the way."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.steps.forward import logits_of
from repurpose.training.steps.losses import weight_of

__all__ = ["ClassificationObjective", "DivergedError", "Objective", "value_of", "warn_of_left_out", "weight_in_mean"]

Mixing = Callable[[TrainingBatch], TrainingBatch]


class DivergedError(ValueError):
    """The loss became NaN or infinite, and no epoch ended well before."""


class Objective(ABC):
    """What a training minimises. A method with a loss of more than logits and labels derives its own from this.

    What `inputs` and `targets` are is between the objective and the source of its batches. All that learns is in the
    module: parameters that the objective alone has stay as they are, with a UserWarning where they require a gradient.

    Attributes
    ----------
    looks_inside : bool
        Whether the loss may do more with the module and the inputs than call the one with the other. The frozen part of
        the network is then not split off, and parameters outside of it may take part in the loss.
    mixing : callable or None
        What is done to each batch before it is learned from, a `TrainingBatch` to another one: its rows are mixed, say.
    """

    looks_inside: bool = True
    mixing: Mixing | None = None

    @abstractmethod
    def loss(self, module: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """Compute a mean over the rows, with a gradient."""

    def weight(self, batch: TrainingBatch) -> float:
        """Return by what the mean over these rows is divided, so that parts add up to the mean over all of them."""
        return float(batch.n_rows)

    def before_training(self) -> None:  # noqa: B027 (few methods need it)
        """Do what comes once before the first step, in each process: what is asked of all rows, say."""

    def after_step(self, module: nn.Module) -> None:  # noqa: B027 (few methods need it)
        """Do what follows each step of the optimiser, in all processes: a teacher, say, that averages the weights.

        No gradient is recorded. What changes here is named among the `saved` parts of the task. Of a sharded module
        each process has its part of the weights.
        """

    def count_right(self, output: object, targets: Any) -> tuple[Tensor | int, int]:
        """Count the rows that the last output of the network has right, and those that it can be judged by."""
        return 0, 0

    def describe(self) -> dict[str, object]:
        """Name what must be the same when a training is resumed."""
        return {"loss": type(self), "class weights": None}


@dataclass(frozen=True, eq=False)
class ClassificationObjective(Objective):
    """A loss of logits and codes of classes, or after mixing shares of them.

    Attributes
    ----------
    training_loss : callable
        From (module, inputs, targets) to a mean over the rows, with a gradient.
    n_outputs : int
        How many logits the network gives.
    class_weights : tensor of shape (n_outputs,) or None
        The weights of rows in the mean, in validation too, by class.
    """

    training_loss: Callable[[nn.Module, Inputs, Tensor], Tensor]
    n_outputs: int
    class_weights: Tensor | None = None
    looks_inside: bool = False
    mixing: Mixing | None = None

    def loss(self, module: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """Compute the loss that was given."""
        return self.training_loss(module, inputs, targets)

    def weight(self, batch: TrainingBatch) -> float:
        """Return the sum of the weights of the rows' classes."""
        return weight_of(batch.targets, self.class_weights)

    def count_right(self, output: object, targets: Tensor) -> tuple[Tensor | int, int]:
        """Count the rows whose largest logit is that of their class; none where the output is no matrix of logits.

        The count stays on the device: to read it is to wait for all that a GPU has to do.
        """
        try:
            predicted = logits_of(output).detach().argmax(dim=1)
        except (ValueError, IndexError, AttributeError):  # a loss of the user's own may call the network otherwise
            return 0, 0
        codes = targets.argmax(dim=1) if targets.is_floating_point() else targets
        return ((predicted == codes).sum(), len(codes)) if predicted.shape == codes.shape else (0, 0)

    def describe(self) -> dict[str, object]:
        """Name the loss and the weights of the classes."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {"loss": self.training_loss, "class weights": weights}


def value_of(loss: object) -> float:
    """Return the value of a loss. Raises ModelError for what is no single number with a gradient."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelError(f"the training loss must be one number with a gradient, a mean over the rows, got {shape}")
    return float(loss.detach())


def weight_in_mean(objective: Objective, batch: TrainingBatch) -> float:
    """Return how much a batch weighs in a mean. Raises ModelError for what is no number of at least 0."""
    weight: object = 0.0 if batch.zero_weight else objective.weight(batch)
    if isinstance(weight, Tensor) and weight.numel() == 1:
        weight = weight.item()
    if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
        name = f"{type(objective).__name__}.weight"
        raise ModelError(f"{name} must return one number of at least 0, such as the number of rows, got {weight!r}")
    return float(weight)


def warn_of_left_out(objective: Objective, module: nn.Module) -> None:
    """Warn of parameters of the objective's own modules that require a gradient: no optimiser has them."""
    learning = {id(parameter) for parameter in module.parameters()}
    for name, part in vars(objective).items():
        own = part.parameters() if isinstance(part, nn.Module) else ()
        if any(parameter.requires_grad and id(parameter) not in learning for parameter in own):
            warnings.warn(
                f"{type(objective).__name__}.{name} has parameters that are no part of the module, so they do not "
                f"learn: make it one (an attribute of the Repurposer is, where its name ends in an underscore, "
                f"{name.strip('_')}_), or freeze it by requires_grad_(False)",
                UserWarning,
                stacklevel=3,
            )
