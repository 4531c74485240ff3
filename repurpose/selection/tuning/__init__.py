"""Tuning: the parameters of a Repurposer are chosen by trials, those of a head on one pass of the network for all.

Needs Optuna, which is imported when a tuning begins.

May import: data.
"""

from repurpose.selection.tuning.result import TuningResult
from repurpose.selection.tuning.tuning import tune

__all__ = ["TuningResult", "tune"]
