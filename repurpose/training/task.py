"""A task is a network, how it is trained, on what, by what loss, how it is judged, and what is saved."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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
    """

    module: nn.Module
    plan: TrainingPlan
    groups: GroupTable
    new: Collection[str]
    batches: BatchSource
    objective: Objective
    evaluation: EpochEvaluation | None = None
    saved: Mapping[str, Stateful] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        """Name what of the objective, the evaluation and the saved parts must be the same when training is resumed."""
        evaluation = {} if self.evaluation is None else self.evaluation.describe()
        saved = {"saved": sorted(self.saved)} if self.saved else {}  # not an entry of checkpoints before there were any
        return {**self.objective.describe(), **evaluation, **saved}
