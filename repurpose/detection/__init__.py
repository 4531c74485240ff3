"""Detection: finding objects in images, as boxes with labels and scores.

May import: nothing.
"""

from repurpose.detection.data import (
    CocoData,
    DetectionRow,
    DetectionRows,
    Detections,
    DetectionTruth,
    VocFolderData,
    detection_rows,
)
from repurpose.detection.drawing import draw
from repurpose.detection.evaluation import DetectionEvaluation, evaluate_detections

__all__ = [
    "CocoData",
    "DetectionEvaluation",
    "DetectionRow",
    "DetectionRows",
    "DetectionTruth",
    "Detections",
    "VocFolderData",
    "detection_rows",
    "draw",
    "evaluate_detections",
]
