"""The task: everything that a training needs, made of a Repurposer's parameters and the data it was given."""

from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from model_handler import Features
from model_handler.data import Overview, look_through
from model_handler.errors import ModelError
from model_handler.network.copying import separate_storage
from model_handler.network.device import resolve_device
from repurpose.data.class_weights import weight_of_each_class
from repurpose.data.labelled_data import REQUIRES_LABELS, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels
from repurpose.data.row_shapes import check_row_shapes, shapes_of_spec
from repurpose.fitted import fitted_attributes
from repurpose.neural_network.architecture import WithParts, as_spec, check_width
from repurpose.seeding import draw_seed
from repurpose.training.checkpoints.configuration import describe_labels
from repurpose.training.data.augmentation import chosen_augmentation
from repurpose.training.data.batches import TrainingBatches, split_rows
from repurpose.training.data.seeding import drawing_from, seed_of
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.objective import Objective
from repurpose.training.validation import logits_in_batches

__all__ = ["Task", "make_target_module", "prepare_task"]

_LOOKING, _CREATING, _SPLITTING, _MEMBERS = 10, 11, 12, 13  # purposes of seeds, beside those of `training`

# Five epochs, as in Xfer, are five steps where there are thirty images: on digits, a block of EfficientNet-Lite0 and
# a new head then had two of ten held-out images right, and six after thirty epochs.
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 100, 5, 50


@dataclass(frozen=True, eq=False)
class Task:
    """A network to train, on what, how, and by what it is judged; `new` names the parameters that begin anew."""

    module: nn.Module
    new: set[str]
    plan: TrainingPlan
    objective: Objective
    batches: TrainingBatches
    validation: TrainingBatches | None


def prepare_task(repurposer: Any, data: Any, validation_data: Any, *, seed: int | None = None, member: int = 0) -> Task:
    """The task of a Repurposer, whose `classes_` and `example_inputs_` are set on the way.

    `seed` is where all chance comes from; by default it is drawn from `random_state`. Members of an ensemble have the
    same rows to learn from and to be judged by; all other chance is their own.

    Raises TypeError for Features, ValueError for labels or validation data that cannot be used, ModelError for a
    network that does not give a logit for each class.
    """
    if isinstance(data, Features):
        raise TypeError(
            f"{type(repurposer).__name__} trains a network, which takes inputs and not the Features of its layers; "
            "give the data itself, or train a head on them with LrRepurposer"
        )
    if seed is None:
        seed = draw_seed(repurposer.random_state)
    own_seed = seed_of(seed, _MEMBERS, member) if member else seed
    reading = repurposer._reading()
    with drawing_from(seed_of(seed, _LOOKING)):
        seen = look_through(data, **reading)
    check_width(seen.example, None, type(repurposer).__name__)
    encoded = encode_labels(_required(seen.labels, repurposer))
    repurposer.classes_ = encoded.classes
    repurposer.example_inputs_ = as_spec(seen.example)
    if isinstance(seen.example, Tensor) and seen.example.ndim == 2:
        repurposer.n_features_in_ = seen.example.shape[1]
    with drawing_from(seed_of(own_seed, _CREATING)):
        module = make_target_module(repurposer, seen.example)
        n_outputs = _n_outputs(repurposer, module, seen.example)
    given = weight_of_each_class(repurposer.class_weight, encoded.classes, encoded.codes)
    weights = None
    if given is not None:
        weights = torch.tensor([*given, *np.ones(n_outputs - len(given))], dtype=torch.float32, device="cpu")
    repurposer._class_weights = weights
    learning, validation = _split(repurposer, data, seen, encoded.codes, validation_data, seed)
    augment = chosen_augmentation(repurposer.augmentation, seen.example)
    batches = TrainingBatches(data, encoded.classes, seed=own_seed, augment=augment, **learning, **reading)
    return Task(
        module,
        repurposer._new_parameters(module),
        _plan(repurposer, own_seed, batches.n_batches),
        Objective(repurposer._training_loss, n_outputs, weights, is_own=repurposer._has_own_loss()),
        batches,
        validation,
    )


def make_target_module(repurposer: Any, example_inputs: Any) -> nn.Module:
    """What `_create_target_module` makes, on the Repurposer's device, with the modules it set as attributes inside.

    Raises TypeError for anything but a module, ModelError for one that shares weights with the source network.
    """
    module = repurposer._create_target_module(example_inputs)
    hook = f"{type(repurposer).__name__}._create_target_module"
    if not isinstance(module, nn.Module):
        raise TypeError(f"{hook} must return a torch.nn.Module, got {type(module).__name__}")
    source = repurposer._source_network()
    theirs = {id(tensor) for tensor in (*source.parameters(), *source.buffers())}
    if shared := [name for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in theirs]:
        raise ModelError(
            f"{hook} returned a network that shares weights with the source ({', '.join(shared[:3])}), which training "
            "would change; take handler.get_module(), or copy.deepcopy(network)"
        )
    present = set(module.modules())
    parts = {name: value for name, value in fitted_attributes(repurposer).items() if isinstance(value, nn.Module)}
    if strangers := {name: part for name, part in parts.items() if part not in present}:
        module = WithParts(module, strangers)  # modules that the loss uses: trained and saved with the network
    separate_storage(module)
    return module.to(resolve_device(repurposer.device, source))


def _required(labels: Any, repurposer: Any) -> Any:
    if labels is None:
        raise ValueError(f"{type(repurposer).__name__} {REQUIRES_LABELS}")
    return labels


def _n_outputs(repurposer: Any, module: nn.Module, example: Any) -> int:
    """How many logits the network gives; at least one a class."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        n_outputs = logits_in_batches(module, example, repurposer.precision).shape[1]
    module.train(was_training)
    if n_outputs < len(repurposer.classes_):
        n_classes = len(repurposer.classes_)
        raise ModelError(f"the network of {type(repurposer).__name__} gives {n_outputs} logits for {n_classes} classes")
    return n_outputs


def _split(
    repurposer: Any, data: Any, seen: Overview, codes: np.ndarray, validation_data: Any, seed: int
) -> tuple[dict[str, Any], TrainingBatches | None]:
    """The rows to learn from, and the batches to validate by: given, or a fraction of the rows."""
    fraction, reading = repurposer.validation_fraction, repurposer._reading()
    whole = _counts(seen)
    if validation_data is not None and fraction:
        raise ValueError("validation_data and validation_fraction are both given; give one of them")
    if validation_data is not None:
        validation_data = with_labels(validation_data, None)
        refuse_unlabelled(validation_data, "validation_data needs one label a row")
        theirs = look_through(validation_data, **reading)
        if theirs.labels is None:
            raise ValueError("validation_data needs one label a row")
        check_row_shapes(theirs.example, shapes_of_spec(repurposer.example_inputs_), type(repurposer).__name__)
        return whole, TrainingBatches(validation_data, repurposer.classes_, seed=None, **_counts(theirs), **reading)
    if not fraction:
        if repurposer.early_stopping is not None:
            raise ValueError("early_stopping needs something to judge by: validation_fraction=0.1, or validation_data")
        return whole, None
    if seen.rows is None:
        kind = "DataLoader" if isinstance(data, DataLoader) else type(data).__name__
        raise ValueError(
            f"validation_fraction cannot split a {kind}, which has an order of its own; give a second one as "
            "validation_data, or its dataset in place of the loader"
        )
    learning, held_out = split_rows(codes, fraction, seed_of(seed, _SPLITTING))
    size = repurposer.batch_size
    parts = [
        {
            "rows": seen.rows[chosen],
            "n_rows": len(chosen),
            "most": size,
            "labels": describe_labels(codes[chosen], in_order=True),
        }
        for chosen in (learning, held_out)
    ]
    return parts[0], TrainingBatches(data, repurposer.classes_, seed=None, **parts[1], **reading)


def _counts(seen: Overview) -> dict[str, Any]:
    labels = describe_labels(seen.labels, in_order=seen.rows is not None)
    return {
        "rows": seen.rows,
        "n_rows": seen.n_rows,
        "n_batches": seen.n_batches,
        "most": seen.max_batch_size,
        "labels": labels,
    }


def _plan(repurposer: Any, seed: int, n_batches: int) -> TrainingPlan:
    values = {one.name: getattr(repurposer, one.name) for one in fields(TrainingPlan) if hasattr(repurposer, one.name)}
    values |= {"seed": seed, "callbacks": tuple(repurposer.callbacks)}
    if repurposer.num_epochs is not None:
        return TrainingPlan(**values)
    usual = ceil(_STEPS / ceil(n_batches / repurposer.accumulation))
    usual = min(max(usual, _LEAST_EPOCHS), _MOST_EPOCHS)
    begun = 1 + max(TrainingPlan(**{**values, "num_epochs": usual}).epochs_of_start.values(), default=0)
    return TrainingPlan(**{**values, "num_epochs": max(usual, begun)})
