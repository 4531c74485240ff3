"""Batches of one row: whether a network's output for a row depends on the other rows, or loses its axis without them.

A network that squeezes loses the axis of the rows where a batch has one row, such as the last one: that row is then
computed beside a copy of itself. One that mixes rows gives each another output in other company: a warning says so.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["computed_rows", "mixes_rows", "normalises_over_rows", "warn_of_mixing"]

_NOTICEABLE = 0.01  # as a share of the largest value: more than precision or the order of a sum makes


def computed_rows(compute: Callable[[Any], list[Tensor]], inputs: object, n_rows: int) -> list[Tensor]:
    """Return what `compute` gives for the inputs of a batch, tensors whose first axis should be the rows.

    Where it fails, or gives another number of rows, for a single row, it is asked for two; if that is no better, what
    it raised or gave comes out.
    """
    if n_rows != 1:
        return compute(inputs)
    twice, error, found = _twice(inputs), None, None  # made before: the network may write into its inputs
    try:
        found = compute(inputs)
        if all(_count_rows(rows) == 1 for rows in found):
            return found
    except torch.OutOfMemoryError:
        raise
    except Exception as problem:
        error = problem
    try:
        again = compute(twice)
        if all(_count_rows(rows) == 2 for rows in again):
            return [rows[:1] for rows in again]
    except Exception:
        pass  # what came first says more
    if found is None:
        raise error  # type: ignore[misc]
    return found


def mixes_rows(run: Callable[[Any], list[Tensor]], inputs: object, together: list[Tensor]) -> bool:
    """Tell whether the first of two rows comes out otherwise when it is alone; `together` is what `run` gave for both.

    False where that cannot be told: the row alone fails, or has another shape, or chance has a part in it.
    """
    if all(_count_rows(rows) != 2 for rows in together):
        return False
    try:
        alone = run(inputs)
        if len(alone) != len(together) or not any(map(_differ, alone, together)):
            return False
        again = run(inputs)
    except Exception:
        return False
    return all(map(torch.equal, alone, again))


def warn_of_mixing(name: str, run: Callable[[Any], list[Tensor]], inputs: object, together: list[Tensor]) -> None:
    """Warn where the network `name` mixes rows, as `mixes_rows` tells."""
    if not mixes_rows(run, inputs, together):
        return
    warnings.warn(
        f"what {name} makes of a row depends on the rows beside it, so results change "
        "with the batch size and the order of the rows: look for layers that take the first axis for time "
        "(batch_first=False), or average or normalise over it",
        UserWarning,
        stacklevel=2,
    )


def normalises_over_rows(network: nn.Module) -> bool:
    """Tell whether the features of a row depend on the rows beside it, as they do by a BatchNorm without statistics."""
    norms = (part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return any(part.running_mean is None for part in norms)


def _differ(alone: Tensor, together: Tensor) -> bool:
    if (
        not alone.is_floating_point()
        or _count_rows(together) != 2
        or alone.shape != together[:1].shape
        or not alone.numel()
    ):
        return False
    return bool((alone - together[:1]).abs().max() > _NOTICEABLE * alone.abs().max())


def _twice(inputs: object) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _twice(part) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(map(_twice, inputs))
    return torch.cat([inputs, inputs]) if isinstance(inputs, Tensor) and _count_rows(inputs) == 1 else inputs


def _count_rows(rows: Tensor) -> int:
    return len(rows) if rows.ndim else 0
