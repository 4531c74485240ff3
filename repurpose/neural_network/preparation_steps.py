"""The steps that make a training out of parameters and data; a Repurposer takes them in turn and sets its attributes.

Each step returns what it found: the labelled data looked through once, the network, the rows to train on and those to
validate by, the plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.data import Overview, look_through
from model_handler.errors import ModelError
from model_handler.network.copying import separate_storage
from repurpose.data.class_weights import weight_of_each_class
from repurpose.data.groups import check_n_groups
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import is_features, kind_of
from repurpose.data.labelled_data import REQUIRES_LABELS, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels
from repurpose.data.padding import refuse_padding_alone
from repurpose.neural_network.architecture import WithParts, check_width
from repurpose.training.checkpoints.configuration import describe_labels
from repurpose.training.data.batches import TrainingBatches, split_rows
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.validation import logits_in_batches

__all__ = [
    "LabelledRows",
    "TrainingData",
    "check_can_be_split",
    "class_weights",
    "count_outputs",
    "create_module",
    "given_rows",
    "plan_of",
    "read_through",
    "read_training_data",
    "split_validation",
    "usual_epochs",
]

# Five epochs, as in Xfer, are five steps where there are thirty images: on digits, a block of EfficientNet-Lite0 and
# a new head then had two of ten held-out images right, and six after thirty epochs.
_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 100, 5, 50

Reading = Mapping[str, Any]  # the options of `as_batches`


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows of data to train on or to validate by: their numbers, or None where the data has an order of its own.

    `labels` is a checksum of their labels, by which a checkpoint knows them.
    """

    data: object
    rows: np.ndarray | None
    n_rows: int
    n_batches: int
    max_batch_size: int
    labels: str

    @classmethod
    def all_of(cls, data: object, seen: Overview) -> "LabelledRows":
        """Take all rows of data that was looked through."""
        labels = describe_labels(seen.labels, in_order=seen.rows is not None)
        return cls(data, seen.rows, seen.n_rows, seen.n_batches, seen.max_batch_size, labels)

    def batches(self, classes: np.ndarray, seed: int | None, reading: Reading, **more: Any) -> TrainingBatches:
        """Make the batches of each epoch, shuffled by `seed`; None leaves the order as it is."""
        return TrainingBatches(classes=classes, seed=seed, **vars(self), **more, **reading)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labelled data, looked through once: `classes`, sorted, and `codes` (n_rows,), the class index of each row."""

    data: object
    seen: Overview
    classes: np.ndarray
    codes: np.ndarray


def read_through(data: object, reading: Reading, seed: int, class_name: str) -> Overview:
    """Look through data once, with labels or without; whatever draws on the way draws from `seed`.

    Raises TypeError for Features, ValueError for rows without a feature, and for a text that is padding alone among the
    first rows.
    """
    if is_features(data):
        raise TypeError(
            f"{class_name} trains a network, which takes inputs and not the Features of its layers; give the data "
            "itself, or train a head on them with LrRepurposer"
        )
    with drawing_from(seed_of(seed, SeedPurpose.FIRST_PASS)):
        seen = look_through(data, **reading)
    check_width(seen.example, None, class_name)
    refuse_padding_alone(seen.example, seen.rows)
    return seen


def read_training_data(data: object, reading: Reading, seed: int, class_name: str) -> TrainingData:
    """Look through labelled data, as `read_through`. Raises ValueError where labels are missing or of one class."""
    seen = read_through(data, reading, seed, class_name)
    encoded = encode_labels(needed_labels(seen.labels, f"{class_name} {REQUIRES_LABELS}"))
    return TrainingData(data, seen, encoded.classes, encoded.codes)


def create_module(
    create: Callable[[Inputs], object],
    example_inputs: Inputs,
    *,
    further_parts: Callable[[], Mapping[str, nn.Module]],
    source: nn.Module,
    device: torch.device,
    class_name: str,
) -> nn.Module:
    """Call the hook `create` and judge what it made: a network of its own weights, on `device`.

    `further_parts` are asked for after it: modules that it set as attributes and that the network does not contain.
    They are carried along, so that they are trained and saved with the network.

    Raises TypeError for anything but a module, ModelError for one that shares weights with the source network.
    """
    module = create(example_inputs)
    hook = f"{class_name}._create_target_module"
    if not isinstance(module, nn.Module):
        raise TypeError(f"{hook} must return a torch.nn.Module, got {type(module).__name__}")
    of_source = {id(tensor) for tensor in (*source.parameters(), *source.buffers())}
    if shared := [name for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in of_source]:
        raise ModelError(
            f"{hook} returned a network that shares weights with the source ({', '.join(shared[:3])}), which training "
            "would change; take handler.get_module(), or copy.deepcopy(network)"
        )
    present = set(module.modules())
    if left_out := {name: part for name, part in further_parts().items() if part not in present}:
        module = WithParts(module, left_out)
    separate_storage(module)  # no optimiser can write into expanded tensors, or those of inference mode
    return module.to(device)


def count_outputs(module: nn.Module, example: Inputs, precision: str, n_classes: int, class_name: str) -> int:
    """Count the logits that the network gives a row. Raises ModelError for fewer than there are classes."""
    was_training = module.training
    module.eval()  # or BatchNorm would count these two rows, and refuse a single one
    with torch.no_grad():
        n_outputs = logits_in_batches(module, example, precision).shape[1]
    module.train(was_training)
    if n_outputs < n_classes:
        raise ModelError(f"the network of {class_name} gives {n_outputs} logits for {n_classes} classes")
    return n_outputs


def class_weights(
    class_weight: Mapping[Any, float] | str | None, classes: np.ndarray, codes: np.ndarray, n_outputs: int
) -> Tensor | None:
    """Make the weight of each output in the loss, shape (n_outputs,); outputs without a class weigh 1."""
    given = weight_of_each_class(class_weight, classes, codes)
    if given is None:
        return None
    return torch.tensor([*given, *np.ones(n_outputs - len(given))], dtype=torch.float32, device="cpu")


def split_validation(
    training: TrainingData,
    validation_data: object,
    fraction: float,
    *,
    reading: Reading,
    seed: int,
    judge: Callable[[Inputs], object],
    groups: np.ndarray | None = None,
) -> tuple[LabelledRows, LabelledRows | None]:
    """Tell rows to train on from rows to validate by: those of `validation_data`, a fraction of each class, or none.

    Rows of one of the `groups` (n_rows,) stay together. `judge` sees the first two rows of `validation_data`, and
    raises ValueError for such as cannot be judged. Raises ValueError for both at once, for validation data without
    labels, and for a fraction of data whose rows have no numbers, or so small that it is no row.
    """
    if groups is not None:
        check_n_groups(groups, len(training.codes))
    everything = LabelledRows.all_of(training.data, training.seen)
    if validation_data is not None:
        if fraction:
            raise ValueError("validation_data and validation_fraction are both given; give one of them")
        return everything, given_rows(validation_data, reading, judge)
    if not fraction:
        return everything, None
    check_can_be_split(training.data, training.seen)
    learning, held_out = split_rows(training.codes, fraction, seed_of(seed, SeedPurpose.VALIDATION_SPLIT), groups)
    return _chosen_rows(training, learning, reading), _chosen_rows(training, held_out, reading)


def check_can_be_split(data: object, seen: Overview) -> None:
    """Raise ValueError for data whose rows have no numbers, by which some could be held out."""
    if seen.rows is None:
        raise ValueError(
            f"validation_fraction cannot split a {kind_of(data)}, which has an order of its own; give a second one as "
            "validation_data, or its dataset in place of the loader"
        )


def given_rows(validation_data: object, reading: Reading, judge: Callable[[Inputs], object]) -> LabelledRows:
    """Take all rows of `validation_data`, the first two of which `judge` sees. Raises ValueError without labels."""
    labelled = with_labels(validation_data, None)
    needs = "validation_data needs one label a row"
    refuse_unlabelled(labelled, needs)
    seen = look_through(labelled, **reading)
    needed_labels(seen.labels, needs)
    judge(seen.example)
    return LabelledRows.all_of(labelled, seen)


def _chosen_rows(training: TrainingData, chosen: np.ndarray, reading: Reading) -> LabelledRows:
    """Take some of the rows, by their indices."""
    numbers = np.asarray(training.seen.rows)[chosen]
    labels = describe_labels(training.codes[chosen], in_order=True)
    return LabelledRows(training.data, numbers, len(chosen), 0, reading["batch_size"], labels)


def usual_epochs(n_steps_an_epoch: int, n_steps: int = _STEPS) -> int:
    """Return how many epochs there are where `num_epochs` is None: as many as give `n_steps`, from 5 to 50."""
    return min(max(ceil(n_steps / n_steps_an_epoch), _MIN_EPOCHS), _MAX_EPOCHS)


def plan_of(parameters: Mapping[str, Any], seed: int, n_batches: int, n_steps: int = _STEPS) -> TrainingPlan:
    """Make the plan of a training of `n_batches` an epoch; where `num_epochs` is None, as many as give `n_steps`."""
    values = {field.name: parameters[field.name] for field in fields(TrainingPlan) if field.name in parameters}
    values |= {"seed": seed, "callbacks": tuple(parameters["callbacks"])}
    if values["num_epochs"] is not None:
        return TrainingPlan(**values)
    usual = usual_epochs(ceil(n_batches / values["accumulation"]), n_steps)
    last_start = max(TrainingPlan(**{**values, "num_epochs": usual}).epochs_of_start.values(), default=0)
    return TrainingPlan(**{**values, "num_epochs": max(usual, last_start + 1)})  # all that is to begin begins
