"""Detection: finding objects in images, as boxes with labels and scores.

May import: fitted, neural_network, persistence, training, model_handler.
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
from repurpose.detection.detection_repurposer import DetectionRepurposer
from repurpose.detection.drawing import draw
from repurpose.detection.evaluation import DetectionEvaluation, evaluate_detections

__all__ = [
    "CocoData",
    "DetectionEvaluation",
    "DetectionRepurposer",
    "DetectionRow",
    "DetectionRows",
    "DetectionTruth",
    "Detections",
    "VocFolderData",
    "detection_rows",
    "draw",
    "evaluate_detections",
]
