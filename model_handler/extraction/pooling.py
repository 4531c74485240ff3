"""Pooling: from what a layer returns to one row of numbers an input.

`"flatten"` is Xfer's way; `"auto"` is what Repurposers use: vectors as they are, the average over a map's positions,
the average over a text's tokens (padding left out where the batch has an `attention_mask`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model_handler.errors import ModelError
from model_handler.extraction.channel_layout import Layout

__all__ = ["POOLINGS", "Pooling", "Wanted", "check_pooling", "check_poolings", "pool"]

Pooling = str | Callable[[Tensor], Tensor]

POOLINGS = ("auto", "flatten", "avg", "max", "cls")


class Wanted(NamedTuple):
    """A layer by its name, and how what it returns becomes rows."""

    name: str
    pooling: Pooling


def check_pooling(pooling: Pooling) -> None:
    """Raise ValueError, naming the valid ones, for a pooling that there is not."""
    if not callable(pooling) and pooling not in POOLINGS:
        raise ValueError(f"pooling must be a callable or one of {list(POOLINGS)}, got {pooling!r}")


def check_poolings(poolings: Sequence[Pooling]) -> None:
    """Raise TypeError for what is no list of poolings, and ValueError for one that is empty, repeats, or has none."""
    if isinstance(poolings, str) or not isinstance(poolings, Sequence):
        raise TypeError(f"poolings must be a list, such as ['avg', 'max'], got {poolings!r}; write [{poolings!r}]")
    if not poolings:
        raise ValueError(f"poolings is empty; name at least one of {list(POOLINGS)}")
    for pooling in poolings:
        check_pooling(pooling)
    if repeated := sorted({str(pooling) for pooling in poolings if list(poolings).count(pooling) > 1}):
        raise ValueError(f"poolings has {repeated} more than once")


def pool(value: Tensor, pooling: Pooling, layout: Layout | None = None, mask: Tensor | None = None) -> Tensor:
    """Return one row an input: (n_rows, ...) to (n_rows, n_features).

    `layout` says where the channels are; by default first in maps (4 axes and more), last in tokens (3 axes). `mask`
    of shape (n_rows, n_tokens) is true where a token counts. Raises ModelError for "cls" on what is not tokens, and
    for a callable that returns no rows.
    """
    if value.is_quantized:
        value = value.dequantize()
    if callable(pooling):
        return _rows_of_callable(pooling, value)
    if value.ndim <= 2 or pooling == "flatten":
        return value.reshape(value.shape[0], -1)  # by `len`, export would take the number of rows for a constant
    if pooling == "cls":
        if value.ndim != 3:
            raise ModelError(f"pooling 'cls' needs an output of shape (n, tokens, features), got {tuple(value.shape)}")
        return value[:, 0]
    # torch has no mean of integers
    if not value.is_floating_point():
        value = value.to(torch.float32)
    if layout is None:
        layout = "last" if value.ndim == 3 else "first"
    if layout == "last":
        value = value.movedim(-1, 1)
    if mask is not None and value.ndim == 3 and layout == "last" and mask.shape == value[:, 0].shape:
        return _masked(value, mask.to(value.device).bool().unsqueeze(1), pooling)
    axes = tuple(range(2, value.ndim))
    return value.amax(axes) if pooling == "max" else value.mean(axes)


def _masked(value: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool `value` (n, features, tokens) where `mask` (n, 1, tokens) is set; rows without any token become 0."""
    if pooling == "max":
        # padding never is the largest; a row of padding alone would be -inf
        return value.masked_fill(~mask, -torch.inf).amax(-1).masked_fill(~mask.any(-1), 0)
    return value.masked_fill(~mask, 0).sum(-1) / mask.sum(-1).clamp(min=1)


def _rows_of_callable(pooling: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    pooled = pooling(value.contiguous())  # a user's callable may well use `.view`
    if not isinstance(pooled, Tensor) or pooled.ndim == 0 or len(pooled) != len(value):
        got = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
        raise ModelError(f"pooling must return {len(value)} rows for an output of {tuple(value.shape)}, got {got}")
    return pooled.reshape(pooled.shape[0], -1)
