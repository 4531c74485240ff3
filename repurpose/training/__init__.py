"""Training: a network trained on labelled batches by a plan. It knows modules and codes of classes, no Repurposers.

May import: repurpose.axes, repurpose.data, repurpose.parameters, repurpose.persistence, model_handler.
"""

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
