"""Calling a network with the inputs of a batch: placed where it is, by position or by name; what its logits are."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.inputs import place
from model_handler.network.outputs import select_tensor

__all__ = ["call", "logits_of", "on_device", "pieces"]


def call(module: nn.Module, inputs: Any) -> Any:
    """What the network returns for one tensor, a tuple of them (by position) or a dict (by name)."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def logits_of(output: Any) -> Tensor:
    """The logits (n_rows, n_outputs) in what a network returned. Raises ModelError for any other shape."""
    named = output.get("logits") if isinstance(output, Mapping) else None
    logits = getattr(output, "logits", named)
    found = select_tensor(output, "the network", None) if logits is None else logits
    if found.ndim != 2:
        squeezed = (
            ". A network that squeezes loses the axis of the rows where a batch has a single one: give a DataLoader "
            "drop_last=True or another batch_size, or squeeze the other axes alone, x.flatten(1)"
        )
        raise ModelError(
            f"the network must give logits of shape (n_rows, n_classes), got {tuple(found.shape)}"
            f"{squeezed if found.ndim < 2 else ''}"
        )
    return found


def on_device(inputs: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy of inputs on a device, floating parts in a dtype: the network may write into it."""
    if isinstance(inputs, Mapping):
        return {name: on_device(part, device, dtype) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(on_device(part, device, dtype) for part in inputs)
    return place(inputs, device, dtype, channels_last=False)


def pieces(inputs: Any, n_rows: int, size: int | None) -> list[Any]:
    """Inputs of `n_rows` rows cut into as few pieces of at most `size` rows as can be, all nearly as large."""
    n_pieces = 1 if size is None else -(-n_rows // size)
    bounds = [n_rows * number // n_pieces for number in range(n_pieces + 1)]
    return [inputs] if n_pieces <= 1 else [_rows(inputs, slice(*ends)) for ends in pairwise(bounds)]


def _rows(inputs: Any, rows: slice) -> Any:
    if isinstance(inputs, Mapping):
        return {name: part[rows] for name, part in inputs.items()}
    return tuple(_rows(part, rows) for part in inputs) if isinstance(inputs, tuple) else inputs[rows]
