"""The configuration of a training run: what must be the same to resume from a checkpoint, as text by name."""

import re
from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.training.data.batches import BatchSource
from repurpose.training.plan.groups import GroupTable
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["describe", "describe_labels", "describe_training"]

# what is shown or called on the way changes nothing that is learned
_NOT_COMPARED = ("verbose", "callbacks")
# in the repr of objects, and another one in each process
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def describe_training(
    module: nn.Module,
    batches: BatchSource,
    plan: TrainingPlan,
    groups: GroupTable,
    judged: BatchSource | None,
    of_method: Mapping[str, object],
) -> dict[str, str]:
    """Describe the plan, the data, the loss, the network as it is before training, what learns and what is frozen.

    `judged` are the batches of the evaluation; `of_method` is how the parts that a method supplies describe themselves.
    """
    of_validation = {"rows": None, "labels": None} if judged is None else judged.describe()
    settled = {
        "network": f"{type(module).__qualname__} of SHA-256 {fingerprint(module)}",
        **batches.describe(),
        **{f"validation {name}": value for name, value in of_validation.items() if name.startswith(("rows", "labels"))},
        **of_method,
        "learning": [
            (group.name, group.learning_rate, group.weight_decay, group.from_epoch, group.n_elements)
            for group in groups
        ],
        "frozen": f"{groups.n_frozen} numbers of SHA-256 {_sha256(groups.frozen)}",
    }
    planned = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name not in _NOT_COMPARED}
    texts = {name: value if isinstance(value, str) else describe(value) for name, value in settled.items()}
    return {**{name: describe(value) for name, value in planned.items()}, **texts}


def describe_labels(labels: ArrayLike | None, *, in_order: bool) -> str:
    """Compute a checksum of labels; of their order too, where the data does not come in another one each time."""
    array = np.asarray(labels)
    return f"SHA-256 {_sha256((array if in_order else np.sort(array)).tolist())}"


def describe(value: object) -> str:
    """Write a value as text that is the same in every process: classes and functions by their names."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{describe(key)}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(describe, value)) + "]"
    name = getattr(value, "__qualname__", None)
    return _ADDRESS.sub("", repr(value)) if name is None else f"{value.__module__}.{name}"


def _sha256(values: object) -> str:
    return sha256(repr(values).encode()).hexdigest()
