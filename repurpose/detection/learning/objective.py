"""The loss of a detector, and its value on other images after each epoch."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.network.precision import computing_in
from repurpose.training.data.batches import BatchSource, TrainingBatch
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.steps.forward import call, moved
from repurpose.training.steps.objective import Objective
from repurpose.training.validation import EpochEvaluation

__all__ = ["DetectionObjective", "DetectionValidation"]


class DetectionObjective(Objective):
    """The sum of the losses of a `DetectionNetwork`, each a mean over images: a batch weighs as many as it has."""

    looks_inside = False

    def loss(self, module: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """Compute it for images and their targets, which are among the inputs that `DetectionBatches` made."""
        losses = call(module, inputs)
        return torch.stack([loss.float() for loss in losses.values()]).sum()


class DetectionValidation(EpochEvaluation):
    """The same sum, and each of the losses in it, in evaluation mode."""

    def __init__(self, batches: BatchSource, precision: str = "float32") -> None:
        super().__init__(batches)
        self.precision = precision

    def measure(
        self, module: nn.Module, batches: Iterator[TrainingBatch], process_group: ProcessGroup
    ) -> dict[str, float]:
        """Compute `validation_loss`, a mean over all images."""
        device = next(module.parameters()).device
        total, n_rows = 0.0, 0.0
        for batch in batches:
            inputs, targets = moved(batch.inputs, device), moved(batch.targets, device)
            with computing_in(self.precision, device):
                loss = DetectionObjective().loss(module, inputs, targets)
            if not batch.zero_weight:
                total += float(loss) * batch.n_rows
                n_rows += batch.n_rows
        total, n_rows = process_group.all_reduce_sum(total, n_rows)
        return {"validation_loss": total / n_rows if n_rows else math.nan}
