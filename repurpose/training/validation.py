"""Evaluation after an epoch: what a network is worth on other rows, by default its loss and accuracy there."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.data.batch import count_rows
from model_handler.errors import ModelError
from model_handler.extraction.failures import explain_failure
from model_handler.extraction.single_rows import computed_rows
from model_handler.network.inputs import default_input_names, named_inputs
from model_handler.network.precision import computing_in
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import BatchSource, EpochBatches, TrainingBatch
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.steps.forward import call, logits_of, on_device
from repurpose.training.steps.losses import cross_entropy, weight_of

__all__ = ["EpochEvaluation", "Validation", "failures_explained", "logits_in_batches"]

_OF_TRAINING = ("epoch", "loss", "accuracy", "learning_rates", "seconds")  # what records hold beside it


class EpochEvaluation(ABC):
    """What is measured after each epoch. A method that judges its epochs otherwise derives its own from this.

    Parameters
    ----------
    batches : BatchSource
        What is evaluated on. Training hands back the part of it that this process reads, or the activations of the
        frozen part in the place of its inputs, with the rest of the network.

    Attributes
    ----------
    score : str
        Which of the quantities early stopping and schedules go by: the lower, the better.
    """

    score = "validation_loss"

    def __init__(self, batches: BatchSource) -> None:
        self.batches = batches

    @abstractmethod
    def measure(
        self, module: nn.Module, batches: Iterator[TrainingBatch], process_group: ProcessGroup
    ) -> dict[str, float]:
        """Compute the quantities that enter the record of an epoch, by names of their own, the same on all processes.

        Each is one number; NaN where nothing can be measured.

        The module is in evaluation mode, and no gradient is recorded. Of batches of `zero_weight` outputs are computed,
        as all processes take part in each, and not counted.
        """

    def describe(self) -> dict[str, object]:
        """Name what must be the same when a training is resumed, beside the batches."""
        return {"evaluation": type(self)}

    @torch.no_grad()
    def evaluate(
        self, module: nn.Module, batches: EpochBatches, process_group: ProcessGroup | None = None
    ) -> dict[str, Any]:
        """Measure `module` on all batches, as one of the processes of a group; its mode is put back.

        Raises TypeError for a quantity that is no number, ValueError without the one that is the score, and for names
        that the record of an epoch has anyway.
        """
        process_group, was_training = process_group or SingleProcess(), module.training
        windows = process_group.accumulation_windows(process_group.start_epoch(batches.epoch(0), seed=0), 1)
        module.eval()
        try:
            found = self.measure(module, (batch for (batch,) in windows), process_group)
        finally:
            module.train(was_training)
        return self._quantities(found)

    def _quantities(self, found: object) -> dict[str, float]:
        """Return what was measured as plain numbers, which checkpoints and logs can hold."""
        name = type(self).__name__
        if not isinstance(found, Mapping):
            raise TypeError(f"{name}.measure must return a dict of numbers by name, got {found!r}")
        if self.score not in found:
            raise ValueError(f"{name} measures {list(found)}, and not its score {self.score!r}")
        if taken := [quantity for quantity in found if quantity in _OF_TRAINING]:
            raise ValueError(f"{name} measures {taken}, names of what training itself records; give others")
        numbers = {quantity: _number(value) for quantity, value in found.items()}
        if wrong := [quantity for quantity, number in numbers.items() if number is None]:
            raise TypeError(f"{name} measures {wrong[0]}={found[wrong[0]]!r}; each quantity must be one number")
        return {quantity: number for quantity, number in numbers.items() if number is not None}


class Validation(EpochEvaluation):
    """The mean log loss in nats, with the classes weighed as in training, and the accuracy."""

    def __init__(self, batches: BatchSource, class_weights: Tensor | None = None, precision: str = "float32") -> None:
        super().__init__(batches)
        self.class_weights, self.precision = class_weights, precision

    def describe(self) -> dict[str, object]:
        """Name nothing: the weights of the classes are those of the objective, and the precision that of the plan."""
        return {}

    def measure(
        self, module: nn.Module, batches: Iterator[TrainingBatch], process_group: ProcessGroup
    ) -> dict[str, float]:
        """Compute `validation_loss`, NaN where all rows weigh nothing, and `validation_accuracy`."""
        loss, weight, n_right, n_rows = 0.0, 0.0, 0.0, 0.0
        for batch in batches:
            logits = logits_in_batches(module, batch.inputs, self.precision)
            if batch.zero_weight:
                continue
            targets = batch.targets.to(logits.device)
            share = weight_of(batch.targets, self.class_weights)
            loss += float(cross_entropy(logits, targets, self.class_weights)) * share if share else 0.0
            weight += share
            n_right += int((logits.argmax(dim=1) == targets).sum())
            n_rows += batch.n_rows
        loss, weight = process_group.all_reduce_sum(loss, weight)
        n_right, n_rows = process_group.all_reduce_sum(n_right, n_rows)
        return {"validation_loss": loss / weight if weight else math.nan, "validation_accuracy": n_right / n_rows}


def _number(value: object) -> float | None:
    """Return a number, or an array or tensor of one, as a float; None for anything else."""
    if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1:
        return float(value.item())
    return float(value) if isinstance(value, Real) else None


def logits_in_batches(module: nn.Module, inputs: Inputs, precision: str) -> Tensor:
    """Compute the logits (n_rows, n_outputs), float32, of the inputs of one batch.

    Raises ModelError naming a layer that fails, and for another number of rows than there are in the inputs.
    """
    n_rows = count_rows(inputs)
    floating = (parameter for parameter in module.parameters() if parameter.is_floating_point())
    first = next(floating, torch.empty(0))  # a network without weights may be asked too

    def compute(given: Inputs) -> list[Tensor]:
        with computing_in(precision, first.device):
            return [logits_of(call(module, on_device(given, first.device, first.dtype))).float()]

    with failures_explained(module, inputs):
        (logits,) = computed_rows(compute, inputs, n_rows)
    if len(logits) != n_rows:
        raise ModelError(f"the network gives {len(logits)} rows of logits for {n_rows} inputs; it must give one each")
    return logits


@contextmanager
def failures_explained(module: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Raise in this block, in which a network runs on inputs, a ModelError that names the layer that fails on them."""
    try:
        yield
    except (RuntimeError, IndexError, AssertionError) as error:
        explain_failure(module, named_inputs(module, inputs, default_input_names(module)), error)
        raise
