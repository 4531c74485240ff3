"""What the distances between two sets of rows have in common where training makes them small."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

__all__ = ["differentiable"]

P = ParamSpec("P")
Distance = Callable[Concatenate[Tensor, Tensor, P], Tensor]

_LEAST = 2  # rows of a domain: both covariances and kernels compare them with others of their own


def differentiable(distance: Distance[P]) -> Distance[P]:
    """Make a distance compute in at least float32, in a network of bfloat16 too; 0 where a domain has one row or none.

    The mean of all rows is taken off first: squares of large numbers would differ by what they are rounded to.
    """

    @wraps(distance)
    def computed(source: Tensor, target: Tensor, /, *options: P.args, **further: P.kwargs) -> Tensor:
        if min(len(source), len(target)) < _LEAST:
            return (source.sum() + target.sum()) * 0  # which has a gradient where the rows have one
        with torch.autocast(source.device.type, enabled=False):
            dtype = torch.promote_types(source.dtype, torch.float32)
            rows = torch.cat([source, target]).to(dtype)
            rows = rows - rows.detach().mean(dim=0)
            return distance(rows[: len(source)], rows[len(source) :], *options, **further)

    return computed
