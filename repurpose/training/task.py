"""A task is a network, how it is trained, on what, by what loss, how it is judged, and what is saved."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from inspect import isclass

from torch import nn

from repurpose.training.data.batches import BatchSource
from repurpose.training.plan.groups import GroupTable
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.state import Stateful
from repurpose.training.steps.objective import Objective
from repurpose.training.validation import EpochEvaluation

__all__ = ["Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that `train` needs. A method may supply each of its parts.

    Attributes
    ----------
    module : nn.Module
        On the device to compute on. Parameters that require no gradient stay as they are.
    plan : TrainingPlan
    groups : GroupTable
        The groups of parameters that learn, as `make_groups` made them of the module and the plan.
    new : collection of str
        The names of the parameters that are reinitialised: the group "new".
    batches : BatchSource
        What makes the batches.
    objective : Objective
        What makes the loss.
    evaluation : EpochEvaluation or None
        What is measured after each epoch.
    saved : dict of str to Stateful
        What a checkpoint holds beside the state of the training and of the batches: whatever else changes from step to
        step and is no part of the module, by names of the method's own.
    blocks : collection of str
        The names of the blocks by which `layer_decay` counts, for whoever makes the groups again.

    Raises
    ------
    TypeError
        Listing each of these parts that is of another kind.
    """

    module: nn.Module
    plan: TrainingPlan
    groups: GroupTable
    new: Collection[str]
    batches: BatchSource
    objective: Objective
    evaluation: EpochEvaluation | None = None
    saved: Mapping[str, Stateful] = field(default_factory=dict)
    blocks: Collection[str] = ()

    def __post_init__(self) -> None:
        parts: list[tuple[str, object, type]] = [
            ("batches", self.batches, BatchSource),
            ("objective", self.objective, Objective),
        ]
        if isinstance(self.evaluation, EpochEvaluation):
            parts.append(("evaluation.batches", getattr(self.evaluation, "batches", None), BatchSource))
        elif self.evaluation is not None:
            parts.append(("evaluation", self.evaluation, EpochEvaluation))
        mistakes = [
            f"{name} must be an object of a class that derives from {kind.__name__}, got {_told(value)}"
            for name, value, kind in parts
            if not isinstance(value, kind)
        ]
        if mistakes := mistakes + _saved_mistakes(self.saved):
            raise TypeError("\n".join(mistakes))

    def describe(self) -> dict[str, object]:
        """Name what of the objective, the evaluation and the saved parts must be the same when training is resumed."""
        evaluation = {} if self.evaluation is None else self.evaluation.describe()
        saved = {"saved": sorted(self.saved)} if self.saved else {}  # not an entry of checkpoints before there were any
        return {**self.objective.describe(), **evaluation, **saved}


def _saved_mistakes(saved: object) -> list[str]:
    """List what of the saved parts has no name, or no state to save."""
    if not isinstance(saved, Mapping):
        return [f"saved must be a dict of objects by names of their own, got {_told(saved)}"]
    return [
        f"saved must have texts as names, got {name!r}" for name in saved if not isinstance(name, str) or not name
    ] + [
        f"saved[{name!r}] must have the methods state_dict and load_state_dict, got {_told(part)}"
        for name, part in saved.items()
        if isclass(part) or not all(callable(getattr(part, of, None)) for of in ("state_dict", "load_state_dict"))
    ]


def _told(value: object) -> str:
    """Write what was given where an object of another class is needed."""
    return f"the class {value.__name__} itself: call it" if isclass(value) else type(value).__name__
