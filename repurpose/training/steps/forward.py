"""A network is called with the inputs of a batch, on its device, by position or by name, and gives logits."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.inputs import place
from model_handler.network.outputs import select_tensor
from repurpose.data.inputs import Inputs

__all__ = ["arguments_of", "call", "logits_of", "moved", "on_device"]


def call(module: nn.Module, inputs: Inputs) -> Any:
    """Call the network with one tensor, a tuple of them (by position) or a dict (by name)."""
    args, options = arguments_of(inputs)
    return module(*args, **options)


def arguments_of(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Split the inputs of a network into those that it takes by position and those that it takes by name."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def logits_of(output: object) -> Tensor:
    """Find the logits (n_rows, n_outputs) in what a network returned. Raises ModelError for any other shape."""
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
    """Copy inputs to a device, floating parts in a dtype: the network may write into the copy."""
    if isinstance(inputs, Mapping):
        return {name: on_device(part, device, dtype) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(on_device(part, device, dtype) for part in inputs)
    return place(inputs, device, dtype, channels_last=False)


def moved(value: Any, device: torch.device) -> Any:
    """Return tensors, or dicts, tuples and lists of them, on a device; whatever else stands among them stays."""
    if isinstance(value, Mapping):
        return {name: moved(part, device) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)([moved(part, device) for part in value])
    return value.to(device) if isinstance(value, Tensor) else value
