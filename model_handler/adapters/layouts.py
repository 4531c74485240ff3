"""Layouts: where the outputs of a layer lie in its weights, so that one formula serves all kinds of layers.

A weight is meant as a matrix (n_outputs, n_inputs), of a convolution with n_inputs = channels of one group * kernel.
Linear layers and convolutions hold it so, GPT-2's `Conv1D` transposed, and transposed convolutions with the two kinds
of channels exchanged inside each group.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from model_handler.network.adapted_layer import is_column_linear

__all__ = [
    "Piece",
    "is_matrix_layer",
    "is_norm",
    "matrix_shape",
    "n_outputs_of",
    "padded",
    "per_output",
    "pieces_of",
    "shaped",
]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Piece:
    """Outputs `start` to `stop` of a layer, all by default: rows of its weight and of the bias beside it, by name.

    `suffix` tells the parameters of one piece from those of the others of the same layer.
    """

    weight: str | None = "weight"
    bias: str | None = "bias"
    start: int = 0
    stop: int | None = None
    suffix: str = ""


def is_matrix_layer(layer: nn.Module) -> bool:
    """Return whether a layer multiplies by a weight: linear, a convolution, or attention, which projects by it."""
    return isinstance(layer, (nn.Linear, _ConvNd, nn.MultiheadAttention)) or is_column_linear(layer)


def is_norm(layer: nn.Module) -> bool:
    """Return whether a layer normalises: torch's classes, and those of other libraries that are named so."""
    if isinstance(layer, _NORMS):
        return True
    weight = layer._parameters.get("weight")
    return "norm" in type(layer).__name__.lower() and weight is not None and weight.ndim == 1 and not layer._modules


def pieces_of(layer: nn.Module) -> tuple[Piece, ...]:
    """Return the whole of a layer in pieces: of attention that projects by three weights four, otherwise one."""
    if not isinstance(layer, nn.MultiheadAttention):
        return (Piece(bias=None if layer._parameters.get("bias") is None else "bias"),)
    bias = None if layer.in_proj_bias is None else "in_proj_bias"
    if layer._parameters.get("in_proj_weight") is not None:
        return (Piece("in_proj_weight", bias),)
    weights = (Piece(f"{part[0]}_proj_weight", None, suffix=f"_{part}") for part in ("query", "key", "value"))
    return (*weights, Piece(None, bias)) if bias else tuple(weights)


def n_outputs_of(layer: nn.Module, piece: Piece) -> int:
    """Return how many outputs of a layer a piece has."""
    if piece.weight is not None:
        whole = matrix_shape(layer, piece.weight)[0]
    else:
        whole = len(layer._parameters[str(piece.bias)])  # type: ignore[arg-type]
    return (whole if piece.stop is None else piece.stop) - piece.start


def matrix_shape(layer: nn.Module, name: str) -> tuple[int, int]:
    """Return the shape of a weight as a matrix: (n_outputs, n_inputs)."""
    held: Any = layer._parameters[name]
    if held.ndim == 1:
        return len(held), 1
    if is_column_linear(layer):
        return held.shape[1], held.shape[0]
    if isinstance(layer, _ConvTransposeNd):
        n_outputs = held.shape[1] * layer.groups
        return n_outputs, held.numel() // n_outputs
    return held.shape[0], held[0].numel()


def shaped(layer: nn.Module, name: str, matrix: Tensor) -> Tensor:
    """Return a matrix (n_outputs, n_inputs) in the shape in which the layer holds the weight."""
    held: Any = layer._parameters[name]
    if is_column_linear(layer):
        return matrix.T
    if isinstance(layer, _ConvTransposeNd):
        n_inputs, n_outputs_of_group = held.shape[:2]
        groups = matrix.reshape(layer.groups, n_outputs_of_group, n_inputs // layer.groups, -1)
        return groups.transpose(1, 2).reshape(held.shape)
    return matrix.reshape(held.shape)


def per_output(layer: nn.Module, name: str, vector: Tensor) -> Tensor:
    """Reshape numbers, one for each output, so that they multiply a weight or a bias of the layer."""
    held: Any = layer._parameters[name]
    if held.ndim == 1 or is_norm(layer) or is_column_linear(layer):
        return vector
    if isinstance(layer, _ConvTransposeNd):
        _, n_inputs = matrix_shape(layer, name)
        return shaped(layer, name, vector[:, None].expand(-1, n_inputs))
    return vector.reshape(-1, *[1] * (held.ndim - 1))


def padded(piece: Piece, tensor: Tensor, n_outputs: int, value: float = 0.0) -> Tensor:
    """Return numbers of a piece, along the first axis, among those of all outputs, which get `value`."""
    after = n_outputs - (n_outputs if piece.stop is None else piece.stop)
    if not piece.start and not after:
        return tensor
    return F.pad(tensor, (*[0] * (2 * (tensor.ndim - 1)), piece.start, after), value=value)
