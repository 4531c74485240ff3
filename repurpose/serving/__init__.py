"""A model behind a service: inputs that it should not answer are refused, and a damaged deployment is noticed.

May import: data, parameters, persistence, uncertainty, model_handler.
"""

from repurpose.serving.guarded_prediction import GuardedPrediction, RefusedRowsError
from repurpose.serving.input_schema import InputSchema
from repurpose.serving.row_counts import RowCounts
from repurpose.serving.validation import ChangedAnswersError, ValidationReport

__all__ = [
    "ChangedAnswersError",
    "GuardedPrediction",
    "InputSchema",
    "RefusedRowsError",
    "RowCounts",
    "ValidationReport",
]
