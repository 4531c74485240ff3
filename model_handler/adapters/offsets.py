"""Offsets: numbers that begin as zero are added to biases, or to the weight and bias of normalisation.

Learning them is tuning the biases alone (BitFit, Zaken et al. 2022, arXiv:2106.10199), or normalisation alone, with the
source's own numbers kept beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from model_handler.adapters.layouts import Piece, padded
from model_handler.network.adapted_layer import LayerAdapter

__all__ = ["Offsets", "bias_offsets", "norm_offsets"]


@dataclass(frozen=True)
class Offset:
    """What is added to outputs of one tensor of a layer: the parameter `name`, a number for each output of `piece`."""

    target: str
    name: str
    piece: Piece


@dataclass(frozen=True)
class Offsets(LayerAdapter):
    """Adds to the bias of a layer, or to all that a normalisation learns."""

    kind: str
    offsets: tuple[Offset, ...]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(offset.name for offset in self.offsets)

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(offset.target for offset in self.offsets)

    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        for offset in self.offsets:
            if offset.target == name:
                held: Any = layer._parameters[offset.name]
                tensor = tensor + padded(offset.piece, held, len(tensor))
        return tensor


def bias_offsets(layer: nn.Module, pieces: Sequence[Piece]) -> tuple[Offsets, dict[str, nn.Parameter]]:
    """Make an adapter of the biases of a layer, and its parameters."""
    found = [Offset(piece.bias, f"bias_offset{piece.suffix}", piece) for piece in pieces if piece.bias is not None]
    return _made("bias", layer, found)


def norm_offsets(layer: nn.Module) -> tuple[Offsets, dict[str, nn.Parameter]]:
    """Make an adapter of what a normalisation learns, and its parameters."""
    names = [name for name in ("weight", "bias") if layer._parameters.get(name) is not None]
    return _made("norm", layer, [Offset(name, f"{name}_offset", Piece()) for name in names])


def _made(kind: str, layer: nn.Module, offsets: Sequence[Offset]) -> tuple[Offsets, dict[str, nn.Parameter]]:
    parameters = {}
    for offset in offsets:
        held: Any = layer._parameters[offset.target]
        parameters[offset.name] = nn.Parameter(held.new_zeros(held[offset.piece.start : offset.piece.stop].shape))
    return Offsets(kind, tuple(offsets)), parameters
