"""Training: a network trained on labelled batches by a plan. Knows modules and codes of classes, no Repurposers."""

from repurpose.training.callbacks import Callback, CsvLog, TensorBoardLog
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.parameter_groups import GroupTable, ParameterGroup
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.rate_search import RateSearch

__all__ = [
    "Callback",
    "CsvLog",
    "GroupTable",
    "History",
    "ParameterGroup",
    "RateSearch",
    "TensorBoardLog",
    "TrainingBatch",
    "TrainingBatches",
    "TrainingPlan",
    "train",
]
