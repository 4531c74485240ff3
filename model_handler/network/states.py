"""The part of a `state_dict` that can be copied, written to files and set again: all but packed quantized weights.

Layers of `torch.ao.quantization` have their weights packed for their kernels: no tensors, but objects that neither
learn nor fit into a file. Where a network is made again, they come from its source.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["copied_state", "load_state", "state_of"]


def state_of(network: nn.Module) -> dict[str, Any]:
    """Return the `state_dict` of a network without packed weights."""
    return {name: value for name, value in network.state_dict().items() if not _is_packed(value)}


def copied_state(network: nn.Module, device: torch.device | None = None) -> dict[str, Any]:
    """Return what `state_of` does, as copies that do not change with the network, on `device` if one is given."""
    return {name: _copied(value, device) for name, value in state_of(network).items()}


def load_state(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Set what `state_of` gave, in place; packed weights stay. Raises RuntimeError as `load_state_dict` does."""
    full_state = network.state_dict()  # notes which versions of layers it is of
    for name in [name for name, value in full_state.items() if not _is_packed(value)]:
        del full_state[name]
    full_state.update(state)
    network.load_state_dict(full_state)


def _copied(value: object, device: torch.device | None) -> Any:
    if not isinstance(value, Tensor):  # the extra state of a module
        return copy.deepcopy(value)
    return value.detach().to(device or value.device, copy=True)


def _is_packed(value: object) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_packed, value))
    return isinstance(value, (torch.dtype, torch.ScriptObject)) or (isinstance(value, Tensor) and value.is_quantized)
