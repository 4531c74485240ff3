"""Saving and loading of Repurposers, in JSON, safetensors and skops files: no code runs from a file.

May import: fitted, parameters, source, version, model_handler.
"""

from repurpose.persistence.loading import load
from repurpose.persistence.model_store import ModelStore

__all__ = ["ModelStore", "load"]
