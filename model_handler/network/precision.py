"""Precision: features are computed in float32 or, by autocast, in bfloat16, and handed out as float32 in either case.

"float32" computes in the dtype of the weights. "bfloat16" runs convolutions and matrix products in bfloat16 and leaves
to the others what needs more digits, as torch.autocast decides: it works on any network, shares the weights with it,
and is faster where the processor has instructions for bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["check_precision", "computing_in", "lower_dtype", "tolerance"]

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
_TOLERANCES = {"float32": 5e-6, "bfloat16": 0.1}  # float32: half of the 1e-5 promised, as few rows are compared


def check_precision(precision: str) -> None:
    """Raise ValueError unless `precision` is one there is."""
    if precision not in tuple(_DTYPES):
        raise ValueError(f"precision must be one of {', '.join(map(repr, _DTYPES))}, got {precision!r}")


def lower_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype of convolutions and matrix products, None where it is that of the weights."""
    return _DTYPES[precision]


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks are computed in a precision."""
    dtype = lower_dtype(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def tolerance(precision: str) -> float:
    """Return by how much of the largest value two ways to compute the same features may differ."""
    return _TOLERANCES[precision]
