"""Training: a network trained on labelled batches by a plan. Knows modules and codes of classes, no Repurposers."""

from repurpose.training.callbacks import Callback, CsvLog, TensorBoardLog
from repurpose.training.data.batches import BatchSource, TrainingBatch, TrainingBatches
from repurpose.training.finder import RateSearch
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.groups import GroupTable, ParameterGroup
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.objective import Objective
from repurpose.training.task import Task
from repurpose.training.validation import Evaluation

__all__ = [
    "BatchSource",
    "Callback",
    "CsvLog",
    "Evaluation",
    "GroupTable",
    "History",
    "Objective",
    "ParameterGroup",
    "RateSearch",
    "Task",
    "TensorBoardLog",
    "TrainingBatch",
    "TrainingBatches",
    "TrainingPlan",
    "train",
]
