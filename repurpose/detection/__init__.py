"""Detection: finding objects in images, as boxes with labels and scores.

May import: nothing.
"""

from repurpose.detection.data import (
    CocoData,
    DetectionRow,
    DetectionRows,
    DetectionTruth,
    VocFolderData,
    detection_rows,
)
from repurpose.detection.detections import Detections

__all__ = [
    "CocoData",
    "DetectionRow",
    "DetectionRows",
    "DetectionTruth",
    "Detections",
    "VocFolderData",
    "detection_rows",
]
