"""The type of a network's inputs for some rows: one tensor, or several by position or by name."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["Inputs"]

# One tensor whose first axis is the rows, a tuple of such (called by position) or a dict of them (by name).
Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
