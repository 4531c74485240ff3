"""Saving and loading of Repurposers, in JSON, safetensors and skops files: no code runs from a file.

May import: advice, fitted, parameters, source, version, model_handler.
"""

from repurpose.persistence.container.signatures import signing_key_pair
from repurpose.persistence.loading import load
from repurpose.persistence.model_store import ModelStore

__all__ = ["ModelStore", "load", "signing_key_pair"]
