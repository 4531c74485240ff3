"""Networks: look inside them, take features from any layer. Knows torch; knows nothing of what labels mean."""

from model_handler.data import ImageFolderData
from model_handler.errors import ModelError, UnknownLayerError, UntraceableModelError
from model_handler.features import Features
from model_handler.handler import LayerInfo, ModelHandler
from model_handler.sources import Source, load_source

__all__ = [
    "Features",
    "ImageFolderData",
    "LayerInfo",
    "ModelError",
    "ModelHandler",
    "Source",
    "UnknownLayerError",
    "UntraceableModelError",
    "load_source",
]
