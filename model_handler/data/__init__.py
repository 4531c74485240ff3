"""Data: every kind of input that users have, turned into batches of rows in one place.

May import: errors, missing_values, user_warnings.
"""

from model_handler.data.batch import Share
from model_handler.data.batches import Batch, Batches, as_batches, check_order, refuse_dropped_rows
from model_handler.data.class_names import named_classes
from model_handler.data.image_folder import ImageFolderData
from model_handler.data.loader_errors import RowError, data_name, watching_workers
from model_handler.data.loaders import shuffling_sampler
from model_handler.data.overview import (
    Overview,
    generators_of,
    labels_beside_inputs,
    look_through,
    names_beside_inputs,
    opened,
    unmoved_generators,
)
from model_handler.data.prefetching import refuse_in_prefetching
from model_handler.data.randomness import random_part
from model_handler.data.reading import reading_options

__all__ = [
    "Batch",
    "Batches",
    "ImageFolderData",
    "Overview",
    "RowError",
    "Share",
    "as_batches",
    "check_order",
    "data_name",
    "generators_of",
    "labels_beside_inputs",
    "look_through",
    "named_classes",
    "names_beside_inputs",
    "opened",
    "random_part",
    "reading_options",
    "refuse_dropped_rows",
    "refuse_in_prefetching",
    "shuffling_sampler",
    "unmoved_generators",
    "watching_workers",
]
