"""The loss of labels, and beside it one that draws a network to what a frozen network answered."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from repurpose.domain.distillation.answers import Answers
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.steps.forward import call
from repurpose.training.steps.objective import ClassificationObjective, Objective

__all__ = ["DistillationObjective", "Term"]

Term = Callable[[Any, Tensor, Tensor], Tensor]


class DistillationObjective(Objective):
    """What a classification makes small, plus a term of what the network returns and the answers to the same rows.

    Parameters
    ----------
    of_labels : ClassificationObjective
        The loss of labels, how rows weigh and what counts as right.
    answers : Answers
    term : callable
        From (output of the network, answers (n_rows, width), weights (n_rows,)) to a number; the weights are those that
        rows have in the loss of labels.
    description : dict
        What of the term must be the same when a training is resumed.
    """

    def __init__(
        self, of_labels: ClassificationObjective, answers: Answers, term: Term, description: Mapping[str, object]
    ) -> None:
        self.of_labels = of_labels
        self.answers = answers
        self.term = term
        self.description = description
        self.looks_inside = of_labels.looks_inside
        self.mixing = answers.mixing

    def before_training(self) -> None:
        """Record the answers."""
        self.answers.record()

    def loss(self, module: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """Compute the sum of both, from one pass unless the loss of labels looks into the network."""
        labels, answers = self.answers.of(targets)
        output = call(module, inputs)
        asked: Any = module if self.looks_inside else lambda *_, **__: output
        of_labels = self.of_labels.loss(asked, inputs, labels)
        # Differences of nearly equal numbers are lost in few digits.
        with torch.autocast(answers.device.type, enabled=False):
            return of_labels + self.term(output, answers, self._row_weights(labels))

    def weight(self, batch: TrainingBatch) -> float:
        """Return what the rows weigh in the loss of labels."""
        labels, _ = self.answers.of(batch.targets)
        return self.of_labels.weight(replace(batch, targets=labels))

    def count_right(self, output: object, targets: Any) -> tuple[Tensor | int, int]:
        """Count the rows whose largest logit is that of their class."""
        return self.of_labels.count_right(output, self.answers.of(targets)[0])

    def describe(self) -> dict[str, object]:
        """Name the loss of labels, the term, the frozen network, and whether it answers each batch anew."""
        return {
            **self.of_labels.describe(),
            **self.description,
            "frozen network": f"SHA-256 {fingerprint(self.answers.network)}",
            "answers": type(self.answers).__name__,
        }

    def _row_weights(self, labels: Tensor) -> Tensor:
        weights = self.of_labels.class_weights
        if weights is None or labels.is_floating_point():
            return torch.ones(len(labels), device=labels.device)
        return weights.to(labels.device)[labels]
