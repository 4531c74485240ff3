"""`LwfRepurposer`: a network learns a new task and keeps the old one, without a row of the old task's data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler import ModelError, Source
from model_handler.errors import first_few
from model_handler.extraction.pooling import Pooling
from model_handler.network.copying import deep_copy
from repurpose.data.inputs import Inputs
from repurpose.data.labels import label_array
from repurpose.domain.distillation.distilling_repurposer import DistillingRepurposer
from repurpose.domain.networks.answers_both_tasks import AnswersBothTasks
from repurpose.domain.networks.two_headed_network import SourceTask, heads_of, two_headed_network
from repurpose.neural_network.classifier import classifier_path, ended_at
from repurpose.neural_network.heads import class_count_mistakes, pooling_mistakes, width_of_head
from repurpose.parameters import is_positive, weight_mistakes
from repurpose.training.plan.groups import make_groups
from repurpose.training.task import Task

__all__ = ["LwfRepurposer", "forgetting_loss"]

# On scikit-learn's digits 5-9, after 0-4 and for 20 epochs, a half left the new task 13 points behind, a tenth none.
_WARM_UP = 0.1


class LwfRepurposer(AnswersBothTasks, DistillingRepurposer):
    """Learns a new task with a head of its own, and keeps the answers of the old head as they were.

    Learning without Forgetting, of Li and Hoiem (2016), arXiv:1606.09282. Before training the old network answers the
    new rows; then the loss is the cross-entropy of the new head plus ``distillation_weight * temperature^2`` times the
    Kullback-Leibler divergence of what the old head says now from what it said, both softened by the temperature. No
    row of the old task is needed. The old head is the last linear layer of the network, whatever comes after it. Before
    the first step the second term is 0, but for dropout and for normalisation by batches (`norm_statistics`).

    Rows that are the same in each epoch are answered once; under `augmentation`, `mixup` or `cutmix`, from a loader or
    random transforms, a frozen copy of the old network answers each batch. The log says which. Of several processes
    each answers all rows.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name: one with a classifier.
    target_class_count : int, optional
        The width of the new head; by default the number of classes seen in training.
    source_classes : sequence of labels, optional
        What the outputs of the old head stand for, one label each; by default their numbers, from 0.
    temperature : float, default=2.0
        The paper's T: above 1, small probabilities count for more.
    distillation_weight : float, default=1.0
        The paper's lambda; the larger, the more is kept. 0 is fine-tuning, after a warm-up, with both heads.
    probe_epochs : int, optional
        For how many epochs the new head alone learns, the warm-up; by default a tenth of all, in which rates rise. The
        paper's goes on until that head has converged, and all weights learn for as long as ever after it: to follow it,
        raise `num_epochs` by as much. `early_stopping` may end training within the warm-up.
    pooling : str or callable, default="auto"
        How tokens that the old head would read one by one become the row that both heads read.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`. The new head is ``"heads.target"``, and
        ``"new"``; the old one ``"heads.source"``, and ``"transferred"``.

    Attributes
    ----------
    source_classes_ : ndarray of shape (n_source_classes,)
        The labels of the old task, in the order of its outputs.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import LwfRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> repurposer = LwfRepurposer(network, source_classes=["a", "b", "c", "d"], num_epochs=4).repurpose((X, y))
    >>> set(repurposer.predict_label(X)) <= {0, 1, 2}, set(repurposer.predict_label(X, task="source")) <= set("abcd")
    (True, True)
    """

    _instead_of_source_data = (
        "what the old network answers to the new rows keeps the old task. Leave it out; to learn from rows of the old "
        "task too, use MultiTaskRepurposer"
    )

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        target_class_count: int | None = None,
        *,
        source_classes: Sequence[Any] | np.ndarray | None = None,
        temperature: float = 2.0,
        distillation_weight: float = 1.0,
        probe_epochs: int | None = None,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, probe_epochs=probe_epochs, **kwargs)
        self.target_class_count = target_class_count
        self.source_classes = source_classes
        self.temperature = temperature
        self.distillation_weight = distillation_weight
        self.pooling = pooling

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        if (classifier := classifier_path(handler)) is None:
            raise ModelError(
                "the network has no classifier, a linear layer behind all others, whose answers could be kept: give it "
                "with its head, or for a task without an older one use NeuralNetworkFineTuneRepurposer"
            )
        old_head = deep_copy(handler.network.get_submodule(classifier))
        ended = ended_at(None, handler, example_inputs, device=self.device, batch_size=self.batch_size)
        return two_headed_network(ended, width_of_head(self.target_class_count, self.classes_), old_head, self.pooling)

    def _new_parameters(self, module: nn.Module) -> set[str]:
        old = {id(parameter) for parameter in heads_of(module).source.parameters()}
        own = dict(module.named_parameters())
        return {name for name in super()._new_parameters(module) if id(own[name]) not in old}

    def _frozen_network(self, module: nn.Module) -> nn.Module:
        return SourceTask(deep_copy(module))

    def _distillation_loss(self, output: Any, answers: Tensor, weights: Tensor) -> Tensor:
        loss = forgetting_loss(output["source_logits"].float(), answers, self.temperature, weights)
        return self.distillation_weight * loss

    def _distillation_of(self) -> Mapping[str, object]:
        return {"temperature": self.temperature, "distillation_weight": self.distillation_weight}

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
        self.source_classes_ = _named_outputs(self.source_classes, heads_of(task.module).n_source_outputs)
        if self.probe_epochs is not None:
            return task
        plan = replace(task.plan, probe_epochs=int(_WARM_UP * task.plan.num_epochs))
        return replace(task, plan=plan, groups=make_groups(task.module, plan, task.new, task.blocks))

    def _plan_values(self) -> dict[str, Any]:
        values = super()._plan_values()  # the number of epochs, of which the warm-up is a share, may not be known yet
        return {**values, "probe_epochs": 0} if self.probe_epochs is None else values

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if not is_positive(self.temperature):
            mistakes.append(f"temperature must be a positive number, got {self.temperature!r}")
        mistakes += weight_mistakes("distillation_weight", self.distillation_weight)
        return mistakes + _class_mistakes(self.source_classes) + pooling_mistakes(self.pooling)


def forgetting_loss(now: Tensor, before: Tensor, temperature: float, weights: Tensor) -> Tensor:
    """Compute T^2 times the mean over rows of KL(softmax(before / T) || softmax(now / T)), in nats.

    `now` and `before` are logits (n_rows, n_outputs), `weights` (n_rows,) what rows weigh in the mean; it is 0 where
    none weighs anything. The factor keeps the gradient as large as that of a cross-entropy: Hinton, Vinyals and Dean
    (2015), arXiv:1503.02531.
    """
    soft_now, soft_before = (F.log_softmax(logits / temperature, dim=1) for logits in (now, before))
    divergences = F.kl_div(soft_now, soft_before, reduction="none", log_target=True).sum(dim=1)
    total = weights.sum()
    return temperature**2 * (weights * divergences).sum() / torch.where(total > 0, total, 1)


def _named_outputs(classes: Sequence[Any] | np.ndarray | None, n_outputs: int) -> np.ndarray:
    """Return the labels of the old head's outputs, (n_outputs,). Raises ValueError for more or fewer of them."""
    if classes is None:
        return np.arange(n_outputs)
    named = label_array(classes)
    if len(named) != n_outputs:
        raise ValueError(
            f"source_classes has {len(named)} labels, and the last linear layer of the network {n_outputs} outputs: "
            "give one label for each, in their order, or leave it out for their numbers"
        )
    return named


def _class_mistakes(classes: object) -> list[str]:
    """Say what is wrong with the labels of the old task, before the network is looked at."""
    if classes is None:
        return []
    if isinstance(classes, (str, bytes)):
        return [f"source_classes must be a list of labels, got the text {classes!r}"]
    try:
        counts = Counter(label_array(classes).tolist())
    except (TypeError, ValueError) as error:
        return [f"source_classes must be a list of labels: {error}"]
    repeated = [repr(label) for label, count in counts.items() if count > 1]
    return [f"source_classes names a label more than once: {first_few(repeated)}"] if repeated else []
