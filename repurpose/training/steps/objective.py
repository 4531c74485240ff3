"""The objective: what a training makes small, and by what it is validated."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from repurpose.training.data.inputs import Inputs

__all__ = ["DivergedError", "Objective", "value_of"]


class DivergedError(ValueError):
    """The loss is no finite number any more, and no epoch ended well before."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of training, and the weights of the classes in it.

    Attributes
    ----------
    training_loss : callable
        Of (module, inputs, targets): a mean over the rows, with a gradient.
    n_outputs : int
        How many logits the network gives.
    class_weights : tensor of shape (n_outputs,) or None
        By which a mean weighs its rows; of validation too.
    is_own : bool
        Whether the loss may do more with the module and the inputs than call the one with the other.
    """

    training_loss: Callable[[nn.Module, Inputs, Tensor], Tensor]
    n_outputs: int
    class_weights: torch.Tensor | None = None
    is_own: bool = False


def value_of(loss: object) -> float:
    """The value of a loss. Raises ModelError for what is no single number with a gradient."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelError(f"the training loss must be one number with a gradient, a mean over the rows, got {shape}")
    return float(loss.detach())
