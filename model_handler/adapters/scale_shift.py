"""SSF: what a layer returns is multiplied and shifted, a scale and a shift for each output (Lian et al. 2022).

Scales begin as one and shifts as zero (arXiv:2210.08823). A layer without a bias gets scales alone: a shift could not
be merged into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from model_handler.adapters.layouts import Piece, is_norm, n_outputs_of, padded, per_output
from model_handler.network.adapted_layer import LayerAdapter

__all__ = ["ScaleShift", "scale_shift"]


@dataclass(frozen=True)
class ScaleShift(LayerAdapter):
    """Multiplies outputs of a layer, by its weight and bias, and shifts them, by its bias."""

    pieces: tuple[Piece, ...]

    kind = "scale_shift"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        scales = tuple(f"ssf_scale{piece.suffix}" for piece in self.pieces if piece.weight is not None)
        return scales + tuple(f"ssf_shift{piece.suffix}" for piece in self.pieces if piece.bias is not None)

    @property
    def targets(self) -> frozenset[str]:
        named = [name for piece in self.pieces for name in (piece.weight, piece.bias)]
        return frozenset(name for name in named if name is not None)

    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        scale, shift = self._numbers(layer, name)
        if scale is not None:
            tensor = tensor * per_output(layer, name, scale)
        return tensor if shift is None else tensor + shift

    def acts_on_output(self, layer: nn.Module) -> bool:
        return not is_norm(layer)

    def on_output(self, layer: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        scale, shift = self._numbers(layer, "bias" if "bias" in self.targets else "weight")
        axes = [1] * (layer._parameters["weight"].ndim - 2) if isinstance(layer, _ConvNd) else []  # type: ignore[union-attr]
        if scale is not None:
            output = output * scale.view(-1, *axes)
        return output if shift is None else output + shift.view(-1, *axes)

    def _numbers(self, layer: nn.Module, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Return what all outputs of a tensor of the layer are multiplied by and shifted by."""
        scale = shift = None
        held: Any = layer._parameters
        for piece in self.pieces:
            if name not in (piece.weight, piece.bias):
                continue
            n_outputs = _n_outputs(layer, piece)
            if piece.weight is not None:
                factor = padded(piece, held[f"ssf_scale{piece.suffix}"], n_outputs, 1.0)
                scale = factor if scale is None else scale * factor
            if name == piece.bias:
                term = padded(piece, held[f"ssf_shift{piece.suffix}"], n_outputs)
                shift = term if shift is None else shift + term
        return scale, shift


def scale_shift(layer: nn.Module, pieces: Sequence[Piece]) -> tuple[ScaleShift, dict[str, nn.Parameter]]:
    """Make the adapter of a layer and its parameters."""
    parameters = {}
    for piece in pieces:
        held: Any = layer._parameters[str(piece.weight or piece.bias)]
        # a LayerNorm over several axes has a number for each of its places
        shape = held.shape if is_norm(layer) else (n_outputs_of(layer, piece),)
        if piece.weight is not None:
            parameters[f"ssf_scale{piece.suffix}"] = nn.Parameter(torch.ones_like(held.new_empty(shape)))
        if piece.bias is not None:
            parameters[f"ssf_shift{piece.suffix}"] = nn.Parameter(held.new_zeros(shape))
    adapter = ScaleShift(tuple(pieces))
    return adapter, {name: parameters[name] for name in adapter.parameter_names}


def _n_outputs(layer: nn.Module, piece: Piece) -> int:
    return n_outputs_of(layer, Piece(piece.weight, piece.bias))
