"""Networks in torch are inspected, edited, and run for features of any layer. Nothing here knows what labels mean."""

from typing import TYPE_CHECKING, Any

from model_handler.adapters.adapting import AdapterInfo
from model_handler.blocks.records import Attention, Block, Projection
from model_handler.data import ImageFolderData
from model_handler.data.tables.table_data import TableData
from model_handler.data.tar.tar_shards import TarShards
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
from model_handler.features import Features, ShardedFeatures
from model_handler.handler import ModelHandler
from model_handler.inspection.summary import LayerInfo, Summary
from model_handler.sources import Source, SourceInfo, list_sources, load_source

if TYPE_CHECKING:
    from model_handler.feature_extractor import FeatureExtractor

__all__ = [
    "AdapterInfo",
    "AmbiguousLayerError",
    "Attention",
    "Block",
    "CorruptFileError",
    "FeatureExtractor",
    "Features",
    "FormatVersionError",
    "ImageFolderData",
    "LayerInfo",
    "ModelError",
    "ModelHandler",
    "NoBlocksError",
    "Projection",
    "ShardedFeatures",
    "Source",
    "SourceInfo",
    "Summary",
    "TableData",
    "TarShards",
    "TextTransform",
    "UnknownLayerError",
    "UnsafeFileError",
    "UntraceableModelError",
    "list_sources",
    "load_source",
]


def __getattr__(name: str) -> Any:
    """Import `FeatureExtractor` when it is first asked for: of all that is here, it alone needs scikit-learn."""
    if name != "FeatureExtractor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model_handler.feature_extractor import FeatureExtractor

    return FeatureExtractor
