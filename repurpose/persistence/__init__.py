"""Saving and loading a Repurposer by JSON, safetensors and, for scikit-learn heads, skops: no code runs from a file."""

from repurpose.persistence.loading import load

__all__ = ["load"]
