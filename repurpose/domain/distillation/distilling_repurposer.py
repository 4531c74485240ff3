"""`DistillingRepurposer`: the base of methods that train a network on labels and on what a frozen network answers."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from torch import Tensor, nn

from repurpose.domain.distillation.answers import Answers, AnswersOfEachBatch, RecordedAnswers, why_not_recorded
from repurpose.domain.distillation.distillation_objective import DistillationObjective
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.training.data.batches import BatchSource, TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.steps.objective import ClassificationObjective
from repurpose.training.task import Task

__all__ = ["DistillingRepurposer"]

_LOG = logging.getLogger(__name__)


class DistillingRepurposer(NeuralNetworkRepurposer):
    """Base of the methods that add, to the loss of labels, one of what a frozen network answers to the same rows.

    A method of your own is a subclass with the hooks `_create_target_module`, `_frozen_network` and
    `_distillation_loss`. Where rows are the same in each epoch the frozen network is asked once, else about each batch.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from torch.nn.functional import mse_loss
    >>> from repurpose.domain import DistillingRepurposer
    >>> class LogitMatching(DistillingRepurposer):
    ...     def _create_target_module(self, example_inputs):
    ...         return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, len(self.classes_)))
    ...
    ...     def _frozen_network(self, module):
    ...         return self.source_model
    ...
    ...     def _distillation_loss(self, output, answers, weights):
    ...         return mse_loss(output, answers)
    ...
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    >>> LogitMatching(network, num_epochs=3).repurpose((X, y)).predict_probability(X).shape
    (30, 3)
    """

    _instead_of_source_data: ClassVar[str] = "it learns from the rows of the data, and what a network answers to them"

    def _frozen_network(self, module: nn.Module) -> nn.Module:
        """Hook: the network that is asked; it gives rows (n_rows, width), and is left as it is.

        `module` is the one that will learn, before it does: whoever gives that gives a copy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _frozen_network")

    def _distillation_loss(self, output: Any, answers: Tensor, weights: Tensor) -> Tensor:
        """Hook: one number, of what the module returned, the answers (n_rows, width) and weights of rows (n_rows,)."""
        raise NotImplementedError(f"{type(self).__name__} must define _distillation_loss")

    def _distillation_of(self) -> Mapping[str, object]:
        """Hook, optional: parameters of the loss that must be the same when a training is resumed."""
        return {}

    def _check_batches(self, batches: BatchSource) -> None:
        """Hook, optional: raise ValueError for batches from which nothing can be distilled."""

    def _prepare_task(
        self,
        data: object,
        validation_data: object = None,
        *,
        seed: int | None = None,
        member: int = 0,
        groups: np.ndarray | None = None,
    ) -> Task:
        task = super()._prepare_task(data, validation_data, seed=seed, member=member, groups=groups)
        of_labels, batches = cast(ClassificationObjective, task.objective), cast(TrainingBatches, task.batches)
        self._check_batches(batches)
        with drawing_from(0):  # one thread at a time: networks may be traced
            network = self._frozen_network(task.module)
        answers: Answers
        if obstacle := why_not_recorded(batches, of_labels.mixing):
            answers = AnswersOfEachBatch(network, batches, of_labels.mixing, self.precision)
        else:
            answers = RecordedAnswers(network, batches, self.precision, self.verbose)
        how = f"answers each batch: {obstacle}" if obstacle else f"answers all {batches.n_rows:,} rows once"
        _LOG.info("%s: the frozen network %s", type(self).__name__, how)
        objective = DistillationObjective(of_labels, answers, self._distillation_loss, self._distillation_of())
        return replace(task, batches=answers.batches, objective=objective)
