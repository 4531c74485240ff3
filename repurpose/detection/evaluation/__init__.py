"""What a detector found is measured against what is true: matches, average precision, calibration of scores.

May import: data, persistence.values, uncertainty, model_handler.
"""

from repurpose.detection.evaluation.class_precisions import ClassPrecisions
from repurpose.detection.evaluation.detection_evaluation import (
    DetectionEvaluation,
    PrecisionRecall,
    evaluate_detections,
    evaluate_matches,
    refuse_without_objects,
)
from repurpose.detection.evaluation.matches import Matches, match_detections
from repurpose.detection.evaluation.score_calibration import (
    IsotonicScores,
    PlattScores,
    ScoreCalibration,
    fit_score_calibration,
    score_calibration_error,
)

__all__ = [
    "ClassPrecisions",
    "DetectionEvaluation",
    "IsotonicScores",
    "Matches",
    "PlattScores",
    "PrecisionRecall",
    "ScoreCalibration",
    "evaluate_detections",
    "evaluate_matches",
    "fit_score_calibration",
    "match_detections",
    "refuse_without_objects",
    "score_calibration_error",
]
