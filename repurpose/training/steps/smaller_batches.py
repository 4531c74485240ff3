"""Where a batch does not fit into memory, training starts over with half as many rows at once.

The batches stay what they are; each is computed in pieces whose gradients add up, so that a step is worth as much as
before. Only BatchNorm sees the difference: its statistics are those of a piece.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from model_handler.errors import ModelError
from model_handler.network.states import copied_state, load_state

__all__ = ["is_out_of_memory", "with_smaller_batches"]

T = TypeVar("T")


def with_smaller_batches(attempt: Callable[[int | None], T], module: nn.Module, batch_size: int) -> T:
    """Call `attempt` with the number of rows to compute at once, None for all, then ever fewer; return its result.

    Each attempt begins with the weights that `module` has now. Raises ModelError if a single row is too much.
    """
    start = copied_state(module, torch.device("cpu"))  # where memory is not short
    rows_at_once: int | None = None

    def halve() -> int:
        nonlocal rows_at_once
        before = batch_size if rows_at_once is None else rows_at_once
        rows_at_once = before // 2
        if rows_at_once:
            warnings.warn(
                f"out of memory with {before} rows at once: training begins again with {rows_at_once} at once, whose "
                f"gradients add up to those of batches of {batch_size}",
                UserWarning,
                stacklevel=2,
            )
            with torch.no_grad():
                load_state(module, start)
        return rows_at_once

    try:
        return attempt(None)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    from accelerate.utils.memory import find_executable_batch_size

    @find_executable_batch_size(starting_batch_size=halve(), reduce_batch_size_fn=halve)
    def executable(_: int) -> T:
        return attempt(rows_at_once)

    try:
        return executable()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise ModelError(
            "out of memory with a single row at once: freeze more layers, or take smaller inputs"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory was short, of whatever device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size  # imported only where something failed

    return should_reduce_batch_size(error)
