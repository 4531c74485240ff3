"""Totals of an epoch: the mean training loss and, where outputs can be judged, the accuracy."""

import math

from torch import Tensor

from repurpose.training.distributed.process_group import ProcessGroup

__all__ = ["Totals"]


class Totals:
    """Sums over the batches of an epoch, from which its mean loss and its accuracy are computed."""

    def __init__(self) -> None:
        self.n_batches = self.n_rows = self.n_judged = 0
        self.n_right: Tensor | int = 0
        self.loss = self.weight = 0.0

    def add(self, loss: float, weight: float, n_rows: int, right: tuple[Tensor | int, int]) -> None:
        """Add a piece: its mean loss, its weight in the mean, its rows, and how many are right of how many judged."""
        self.loss += loss * weight
        self.weight += weight
        self.n_rows += n_rows
        self.n_right, self.n_judged = self.n_right + right[0], self.n_judged + right[1]

    def add_up(self, process_group: ProcessGroup) -> None:
        """Sum over all processes, in place."""
        self.loss, self.weight = process_group.all_reduce_sum(self.loss, self.weight)
        self.n_right, self.n_judged = map(int, process_group.all_reduce_sum(int(self.n_right), self.n_judged))
        self.n_rows = int(process_group.all_reduce_sum(self.n_rows)[0])

    def means(self) -> dict[str, float | None]:
        """Return `loss`, NaN before the first batch, and `accuracy`, None where no output could be judged."""
        return {
            "loss": self.loss / self.weight if self.weight else math.nan,
            "accuracy": int(self.n_right) / self.n_judged if self.n_judged else None,
        }
