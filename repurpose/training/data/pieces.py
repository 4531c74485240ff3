"""Cutting batches into pieces of fewer rows, where memory asks for it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["bounds_of_pieces", "rows_of"]


def bounds_of_pieces(n_rows: int, size: int | None) -> list[slice]:
    """Cut `n_rows` rows into as few pieces of at most `size` rows as can be, all nearly as large."""
    n_pieces = 1 if size is None else max(1, -(-n_rows // size))
    bounds = [n_rows * number // n_pieces for number in range(n_pieces + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def rows_of(value: Any, rows: slice) -> Any:
    """Take some rows of inputs or targets: of each part of a dict or tuple, and of what can be cut by itself."""
    if isinstance(value, Mapping):
        return {name: rows_of(part, rows) for name, part in value.items()}
    return tuple(rows_of(part, rows) for part in value) if isinstance(value, tuple) else value[rows]
