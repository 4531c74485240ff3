"""Validation: loss and accuracy of a network on labelled batches, in evaluation mode."""

import torch
from torch import Tensor, nn

from model_handler.data.batch import count_rows
from model_handler.errors import ModelError
from model_handler.extraction.failures import explain_failure
from model_handler.extraction.single_rows import computed_rows
from model_handler.network.inputs import default_input_names, named_inputs
from model_handler.network.precision import computing_in
from repurpose.training.data.batches import EpochBatches
from repurpose.training.data.inputs import Inputs
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.steps.forward import call, logits_of, on_device
from repurpose.training.steps.losses import cross_entropy, weight_of
from repurpose.training.steps.objective import Objective

__all__ = ["logits_in_batches", "validate"]


@torch.no_grad()
def validate(
    module: nn.Module,
    batches: EpochBatches,
    objective: Objective,
    precision: str,
    process_group: ProcessGroup | None = None,
) -> dict[str, float]:
    """The mean log loss (nats, classes weighed as in training) and the accuracy; the mode of `module` is put back."""
    process_group = process_group or SingleProcess()
    was_training, loss, weight, n_right, n_rows = module.training, 0.0, 0.0, 0.0, 0.0
    module.eval()
    try:
        for (batch,) in process_group.accumulation_windows(process_group.start_epoch(batches.epoch(0), seed=0), 1):
            logits = logits_in_batches(module, batch.inputs, precision)
            if batch.zero_weight:
                continue
            targets = batch.targets.to(logits.device)
            share = weight_of(batch.targets, objective.class_weights)
            loss += float(cross_entropy(logits, targets, objective.class_weights)) * share if share else 0.0
            weight += share
            n_right += int((logits.argmax(dim=1) == targets).sum())
            n_rows += batch.n_rows
    finally:
        module.train(was_training)
    (loss, weight), (n_right, n_rows) = (
        process_group.all_reduce_sum(loss, weight),
        process_group.all_reduce_sum(n_right, n_rows),
    )
    return {"validation_loss": loss / weight if weight else float("nan"), "validation_accuracy": n_right / n_rows}


def logits_in_batches(module: nn.Module, inputs: Inputs, precision: str) -> Tensor:
    """The logits (n_rows, n_outputs), float32, of the inputs of one batch.

    Raises ModelError naming a layer that fails, and for another number of rows than there are in the inputs.
    """
    n_rows = count_rows(inputs)
    first = next(parameter for parameter in module.parameters() if parameter.is_floating_point())

    def compute(given: Inputs) -> list[Tensor]:
        with computing_in(precision, first.device):
            return [logits_of(call(module, on_device(given, first.device, first.dtype))).float()]

    try:
        (logits,) = computed_rows(compute, inputs, n_rows)
    except (RuntimeError, IndexError) as error:
        explain_failure(module, named_inputs(module, inputs, default_input_names(module)), error)
        raise
    if len(logits) != n_rows:
        raise ModelError(f"the network gives {len(logits)} rows of logits for {n_rows} inputs; it must give one each")
    return logits
