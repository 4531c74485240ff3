"""Lone rows: a network that squeezes loses the axis of the rows where a batch has one row, such as the last one.

That row is then computed beside a copy of itself. Nothing is computed twice where one row comes out as one row.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["computed_rows"]


def computed_rows(compute: Callable[[Any], list[Tensor]], inputs: Any, n_rows: int) -> list[Tensor]:
    """What `compute` gives for the inputs of a batch, tensors whose first axis should be the rows.

    Where it fails, or gives another number of rows, for a single row, it is asked for two; if that is no better, what
    it raised or gave comes out.
    """
    if n_rows != 1:
        return compute(inputs)
    twice, error, found = _twice(inputs), None, None  # made before: the network may write into its inputs
    try:
        found = compute(inputs)
        if all(_n_rows(rows) == 1 for rows in found):
            return found
    except torch.OutOfMemoryError:
        raise
    except Exception as problem:
        error = problem
    try:
        again = compute(twice)
        if all(_n_rows(rows) == 2 for rows in again):
            return [rows[:1] for rows in again]
    except Exception:
        pass  # what came first says more
    if found is None:
        raise error  # type: ignore[misc]
    return found


def _twice(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _twice(part) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(map(_twice, inputs))
    return torch.cat([inputs, inputs]) if isinstance(inputs, Tensor) and _n_rows(inputs) == 1 else inputs


def _n_rows(rows: Tensor) -> int:
    return len(rows) if rows.ndim else 0
