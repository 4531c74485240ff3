"""Saving and loading a Repurposer by JSON, safetensors and skops lives here: no code runs from a file.

May import: fitted, parameters, source, version, model_handler.
"""

from repurpose.persistence.loading import load

__all__ = ["load"]
