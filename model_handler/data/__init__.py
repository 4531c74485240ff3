"""Data: every kind of input that users have, turned into batches of rows in one place."""

from model_handler.data.ahead import refuse_loading_ahead
from model_handler.data.batch import Share
from model_handler.data.batches import Batch, Batches, as_batches, check_order, refuse_dropped_rows
from model_handler.data.class_names import named_classes
from model_handler.data.image_folder import ImageFolderData
from model_handler.data.loaders import shuffling_sampler
from model_handler.data.overview import Overview, generators_of, look_through, unmoved_generators

__all__ = [
    "Batch",
    "Batches",
    "ImageFolderData",
    "Overview",
    "Share",
    "as_batches",
    "check_order",
    "generators_of",
    "look_through",
    "named_classes",
    "refuse_dropped_rows",
    "refuse_loading_ahead",
    "shuffling_sampler",
    "unmoved_generators",
]
