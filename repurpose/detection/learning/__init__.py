"""What the training engine needs to learn boxes: batches of one shape, the loss, and how epochs are judged.

May import: detection.data, detection.networks, parameters, training, model_handler.
"""

from repurpose.detection.learning.batches import DetectionBatches, PaddedRows
from repurpose.detection.learning.image_sizes import chosen_image_size, image_size_mistakes, sizes_of_boxes
from repurpose.detection.learning.objective import DetectionObjective, DetectionValidation

__all__ = [
    "DetectionBatches",
    "DetectionObjective",
    "DetectionValidation",
    "PaddedRows",
    "chosen_image_size",
    "image_size_mistakes",
    "sizes_of_boxes",
]
