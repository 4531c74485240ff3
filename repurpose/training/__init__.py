"""Training: a network trained on labelled batches by a plan. It knows modules and codes of classes, no Repurposers.

May import: repurpose.axes, repurpose.data, repurpose.parameters, model_handler.
"""

from repurpose.training.callbacks import Callback, CsvLog, TensorBoardLog
from repurpose.training.data.batches import BatchSource, TrainingBatch, TrainingBatches
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.parameter_groups import GroupTable, ParameterGroup
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.rate_search import RateSearch
from repurpose.training.steps.objective import Objective
from repurpose.training.task import Task
from repurpose.training.validation import EpochEvaluation

__all__ = [
    "BatchSource",
    "Callback",
    "CsvLog",
    "EpochEvaluation",
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
