"""What a network is called with for some rows: the type that batches, losses and evaluations share."""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

__all__ = ["Inputs"]

# One tensor whose first axis is the rows, a tuple of such (called by position) or a dict of them (by name).
Inputs: TypeAlias = "Tensor | tuple[Inputs, ...] | Mapping[str, Inputs]"
