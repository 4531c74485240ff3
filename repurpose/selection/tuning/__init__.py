"""Tuning: the parameters of a Repurposer are chosen by trials, those of a head on one pass of the network for all.

Needs Optuna, which is imported when a tuning begins.

May import: model_handler, model_handler.data, model_handler.errors, model_handler.files, model_handler.network,
model_handler.progress, model_handler.user_warnings, data, meta_model, neural_network, parameters, persistence.network,
repurposer, seeding, selection.results, source, training, training.checkpoints.
"""

from repurpose.selection.tuning.result import TuningResult
from repurpose.selection.tuning.tuning import tune

__all__ = ["TuningResult", "tune"]
