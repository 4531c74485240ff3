"""Sources: pretrained networks by name, of images and of text, each with its own preprocessing.

`loading` says what a name means; one module for each library that it may name, `hub_cache` for what the Hugging Face
Hub keeps on this machine, `fetching` for what is not there, `listing` for what there is.

May import: data.text, errors, network.
"""

from model_handler.sources.embedded import EMBEDDED, WITH_BICUBIC_RESIZE
from model_handler.sources.given import as_source, no_source
from model_handler.sources.listing import SourceInfo, list_sources
from model_handler.sources.loading import load_source
from model_handler.sources.source import Source, SourceUnavailableError, UnknownSourceError, blank_input

__all__ = [
    "EMBEDDED",
    "WITH_BICUBIC_RESIZE",
    "Source",
    "SourceInfo",
    "SourceUnavailableError",
    "UnknownSourceError",
    "as_source",
    "blank_input",
    "list_sources",
    "load_source",
    "no_source",
]
