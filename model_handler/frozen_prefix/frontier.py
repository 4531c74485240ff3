"""The frontier: what the frozen part of a network hands over to the rest, and a network that knows its own.

A network that is run as a graph is split by `splitting`. One that runs others, twice or by halves, says itself where
its frozen part ends.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_handler.frozen_prefix.constant_nodes import Seen

__all__ = ["Frontier", "SplitsItself"]


@dataclass(frozen=True, eq=False)
class Frontier:
    """A network split where its frozen part ends.

    `layer_names` are the layers whose outputs are the frontier; `shapes` and `dtypes` are those of one row of each.
    `rest` is called with these values as its arguments, in this order, returns what the network returns, and has the
    very parameters and buffers of the network, under their names. `last_layer` is the last one of the frozen part, and
    `n_layers` how many it has.
    """

    layer_names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    rest: nn.Module
    last_layer: str
    n_layers: int

    @property
    def n_bytes(self) -> int:
        """The size of the frontier of one row."""
        seen = (Seen(shape, dtype) for shape, dtype in zip(self.shapes, self.dtypes))
        return sum(value.n_bytes for value in seen)

    def values(self, inputs: object, *, folded: bool = True) -> tuple[Tensor, ...]:
        """Return the frontier of a batch: tensors (n_rows, ...) without gradients, on the network's device.

        `folded`, as features are extracted: within 1e-5 of the largest value; otherwise within 1e-6.
        """
        raise NotImplementedError(f"{type(self).__name__} must define values")

    def n_flops(self, inputs: object) -> int:
        """Return the FLOPs of the frozen part for one row of some inputs."""
        raise NotImplementedError(f"{type(self).__name__} must define n_flops")


class SplitsItself:
    """A second base class of networks that know where their frozen part ends; `splitting.split` asks them."""

    def frontier(self, inputs: object, *, precision: str, fixed_sizes: bool = True) -> Frontier:
        """Return where the frozen part ends, for inputs of one or two rows; the options are those of `split`."""
        raise NotImplementedError(f"{type(self).__name__} must define frontier")
