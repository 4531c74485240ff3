"""Detection data: images with boxes and labels of every kind that users have, as rows by number, and augmented.

May import: model_handler.
"""

from repurpose.detection.data.augmentation import augmentation_mistakes, augmented, chosen_augmentation
from repurpose.detection.data.coco import CocoData
from repurpose.detection.data.detections import Detections
from repurpose.detection.data.kinds import detection_rows
from repurpose.detection.data.overview import DetectionOverview, overview_of
from repurpose.detection.data.pictures import as_picture
from repurpose.detection.data.rows import DetectionRow, DetectionRows, DetectionTruth
from repurpose.detection.data.voc_folder import VocFolderData, voc_splits

__all__ = [
    "CocoData",
    "DetectionOverview",
    "DetectionRow",
    "DetectionRows",
    "DetectionTruth",
    "Detections",
    "VocFolderData",
    "as_picture",
    "augmentation_mistakes",
    "augmented",
    "chosen_augmentation",
    "detection_rows",
    "overview_of",
    "voc_splits",
]
