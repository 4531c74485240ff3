"""What is minimised for two tasks: the cross-entropy of each on its own rows, weighed.

Weights that are learned are those of Kendall, Gal and Cipolla (2018), arXiv:1705.07115: the sum of L / s^2 + log s over
the tasks, where s stands for how uncertain a task is.
"""

from typing import Any

import torch
from torch import Tensor, nn

from repurpose.data.inputs import Inputs
from repurpose.domain.networks.domain_batches import CODES, IS_SOURCE
from repurpose.domain.networks.domain_objective import DomainObjective, Targets
from repurpose.domain.networks.two_headed_network import TwoHeads
from repurpose.training.steps.forward import call

__all__ = ["LOG_VARIANCES", "MultiTaskObjective", "UncertainHeads"]

LOG_VARIANCES = "log_variances"


class UncertainHeads(TwoHeads):
    """Two heads, and how uncertain each task is: `log_variances` (2,), log s^2 of the source and of the target."""

    def __init__(self, target: nn.Module, source: nn.Module, n_source_outputs: int) -> None:
        super().__init__(target, source, n_source_outputs)
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Add "log_variances", of each row the same (n_rows, 2), to what two heads give."""
        return {**super().forward(rows), LOG_VARIANCES: self.log_variances.expand(len(rows), 2)}

    def weights(self) -> Tensor:
        """Compute 1 / s^2 of the source and of the target: (2,)."""
        return torch.exp(-self.log_variances.detach())


class MultiTaskObjective(DomainObjective):
    """The cross-entropy of rows of the source by its head, and of rows of the target by theirs.

    Parameters
    ----------
    task_weights : (float, float) or None
        Of the source and of the target; None takes those that the network learns.
    class_weights : tensor of shape (n_outputs,) or None
        Of the classes of the target.
    label_smoothing : float
    """

    def __init__(
        self,
        task_weights: tuple[float, float] | None,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        self.task_weights = task_weights
        self._of_source = DomainObjective(None, label_smoothing)

    def loss(self, module: nn.Module, inputs: Inputs, targets: Targets) -> Tensor:
        """Compute the weighed sum of the means over the rows of each task."""
        output: Any = call(module, inputs)
        losses = torch.stack(
            [
                self._of_source._of_labels(output["source_logits"], _labels_of(targets, of_source=True)),
                self._of_labels(output["logits"], _labels_of(targets, of_source=False)),
            ]
        )
        if self.task_weights is not None:
            return (losses * losses.new_tensor(self.task_weights)).sum()
        log_variances = output[LOG_VARIANCES][0].float()
        return (losses * torch.exp(-log_variances) + log_variances / 2).sum()

    def count_right(self, output: object, targets: Targets) -> tuple[Tensor | int, int]:
        """Count the rows of the target that are right, among those that have a label."""
        return super().count_right(output, _labels_of(targets, of_source=False))

    def weight(self, batch: Any) -> float:
        """Return the number of rows."""
        return float(batch.n_rows)

    def describe(self) -> dict[str, object]:
        """Name the weights."""
        return {**super().describe(), "task weights": self.task_weights}


def _labels_of(targets: Targets, *, of_source: bool) -> Targets:
    """Leave the labels of one domain alone."""
    codes = targets[CODES]
    return {**targets, CODES: torch.where(targets[IS_SOURCE] == of_source, codes, -1)}
