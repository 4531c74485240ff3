"""Saving and loading of Repurposers, in JSON, safetensors and skops files: no code runs from a file.

May import: fitted, parameters, source, version, model_handler.
"""

from repurpose.persistence.loading import load
from repurpose.persistence.model_store import ModelStore
from repurpose.persistence.signatures import signing_key_pair

__all__ = ["ModelStore", "load", "signing_key_pair"]
