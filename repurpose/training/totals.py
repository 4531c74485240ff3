"""Totals: what an epoch of training comes to."""

import math
from typing import Any

from torch import Tensor

from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.steps.forward import logits_of

__all__ = ["Totals"]


class Totals:
    """Sums over the batches of an epoch, from which its mean loss and its accuracy are.

    How many were right stays on the device until it is asked for: to read it is to wait for all that a GPU has to do.
    """

    def __init__(self) -> None:
        self.n_batches = self.n_rows = self.n_judged = 0
        self.n_right: Tensor | int = 0
        self.loss = self.weight = 0.0

    def add(self, loss: float, weight: float, targets: Tensor, outputs: list[Any]) -> None:
        """Take in a piece: its mean loss, its weight in the mean, its targets, and what the network returned.

        The output is taken out of `outputs`; what is no matrix of logits counts for the loss alone.
        """
        if not weight:
            return
        self.loss, self.weight = self.loss + loss * weight, self.weight + weight
        self.n_rows += len(targets)
        try:
            predicted = logits_of(outputs.pop()).detach().argmax(dim=1)
        except (ValueError, IndexError, AttributeError):  # a loss of the user's own may call the network otherwise
            return
        codes = targets.argmax(dim=1) if targets.is_floating_point() else targets
        if predicted.shape == codes.shape:
            self.n_right, self.n_judged = self.n_right + (predicted == codes).sum(), self.n_judged + len(codes)

    def add_up(self, process_group: ProcessGroup) -> None:
        """The sums over all processes."""
        self.loss, self.weight = process_group.all_reduce_sum(self.loss, self.weight)
        self.n_right, self.n_judged = map(int, process_group.all_reduce_sum(int(self.n_right), self.n_judged))
        self.n_rows = int(process_group.all_reduce_sum(self.n_rows)[0])

    def means(self) -> dict[str, float | None]:
        """`loss`, NaN before the first batch, and `accuracy`, None where no output could be judged."""
        return {
            "loss": self.loss / self.weight if self.weight else math.nan,
            "accuracy": int(self.n_right) / self.n_judged if self.n_judged else None,
        }
