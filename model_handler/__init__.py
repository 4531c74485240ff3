"""Networks in torch are inspected, edited, and run for features of any layer. Nothing here knows what labels mean."""

from model_handler.adapters.adapting import AdapterInfo
from model_handler.blocks.records import Attention, Block, Projection
from model_handler.data import ImageFolderData
from model_handler.data.text.text_transform import TextTransform
from model_handler.errors import (
    AmbiguousLayerError,
    CorruptFileError,
    FormatVersionError,
    ModelError,
    NoBlocksError,
    UnknownLayerError,
    UnsafeFileError,
    UntraceableModelError,
)
from model_handler.features import Features
from model_handler.handler import ModelHandler
from model_handler.inspection.summary import LayerInfo, Summary
from model_handler.sources import Source, load_source

__all__ = [
    "AdapterInfo",
    "AmbiguousLayerError",
    "Attention",
    "Block",
    "CorruptFileError",
    "Features",
    "FormatVersionError",
    "ImageFolderData",
    "LayerInfo",
    "ModelError",
    "ModelHandler",
    "NoBlocksError",
    "Projection",
    "Source",
    "Summary",
    "TextTransform",
    "UnknownLayerError",
    "UnsafeFileError",
    "UntraceableModelError",
    "load_source",
]
