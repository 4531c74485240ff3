"""LoRA: beside a weight W a product B A of low rank learns (Hu et al. 2021, arXiv:2106.09685).

B is (n_outputs, rank) and begins as zero, A is (rank, n_inputs), so that the layer begins as it was. The weight of a
convolution is meant as a matrix: n_inputs counts the channels of one group times the kernel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from model_handler.adapters.layouts import Piece, matrix_shape, n_outputs_of, padded, shaped
from model_handler.network.adapted_layer import LayerAdapter

__all__ = ["LowRank", "low_rank"]


_CONVOLUTIONS: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the axes of their weights


@dataclass(frozen=True)
class LowRank(LayerAdapter):
    """Adds `scale` B A to the weights of a layer, a product of its own for each piece."""

    pieces: tuple[Piece, ...]
    rank: int
    scale: float

    kind = "lora"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(name for piece in self.pieces for name in _names(piece))

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(str(piece.weight) for piece in self.pieces)

    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        a, b = self._factors(layer, name)
        return tensor + shaped(layer, name, b @ a)

    def acts_on_output(self, layer: nn.Module) -> bool:
        # of many groups each would need the whole of A, which costs more than the gradient of so small a weight
        return not isinstance(layer, _ConvNd) or layer.groups == 1

    def on_output(self, layer: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        a, b = self._factors(layer, "weight")
        if not isinstance(layer, _ConvNd):
            return output + F.linear(F.linear(inputs, a), b)
        plain: Any = layer._parameters["weight"]  # the attribute would be W + B A, computed to be thrown away
        inner = layer._conv_forward(inputs, a.view(-1, *plain.shape[1:]), None)
        return output + _CONVOLUTIONS[plain.ndim](inner, b.view(*b.shape, *[1] * (plain.ndim - 2)))

    def __str__(self) -> str:
        return f"lora of rank {self.rank}"

    def _factors(self, layer: nn.Module, name: str) -> tuple[Tensor, Tensor]:
        """Return A (n_ranks, n_inputs) and B (n_outputs, n_ranks), scaled, of all pieces of a weight beside another."""
        n_outputs, _ = matrix_shape(layer, name)
        held: Any = layer._parameters
        found = [(piece, *_names(piece)) for piece in self.pieces if piece.weight == name]
        factors = [held[a] for _, a, _ in found]
        # B of a piece has rows of zeros for the outputs that are not its own
        others = [padded(piece, held[b], n_outputs) for piece, _, b in found]
        a, b = (factors[0], others[0]) if len(found) == 1 else (torch.cat(factors), torch.cat(others, dim=1))
        return a, b if self.scale == 1 else self.scale * b


def low_rank(
    layer: nn.Module, pieces: Sequence[Piece], rank: int, alpha: float | None
) -> tuple[LowRank, dict[str, nn.Parameter]]:
    """Make the adapter of a layer and its parameters, A drawn as torch draws the weight of a linear layer."""
    parameters = {}
    pieces = [piece for piece in pieces if piece.weight is not None]
    for piece in pieces:
        held: Any = layer._parameters[str(piece.weight)]
        n_outputs, n_inputs = n_outputs_of(layer, piece), matrix_shape(layer, str(piece.weight))[1]
        a_name, b_name = _names(piece)
        parameters[a_name] = nn.Parameter(held.new_empty(rank, n_inputs))
        parameters[b_name] = nn.Parameter(held.new_zeros(n_outputs, rank))
        nn.init.kaiming_uniform_(parameters[a_name], a=math.sqrt(5))
    return LowRank(tuple(pieces), rank, 1.0 if alpha is None else alpha / rank), parameters


def _names(piece: Piece) -> tuple[str, str]:
    return f"lora_A{piece.suffix}", f"lora_B{piece.suffix}"
