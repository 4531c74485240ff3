"""The part of a `state_dict` that can be copied, written to files and set again: all but packed quantized weights.

Layers of `torch.ao.quantization` have their weights packed for their kernels: no tensors, but objects that neither
learn nor fit into a file. Where a network is made again, they come from its source.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["copied_state", "has_channels_last", "load_state", "state_of", "with_channels_last"]

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def state_of(network: nn.Module) -> dict[str, Any]:
    """Return the `state_dict` of a network without packed weights."""
    return {name: value for name, value in network.state_dict().items() if not _is_packed(value)}


def copied_state(network: nn.Module, device: torch.device | None = None) -> dict[str, Any]:
    """Return what `state_of` does, as copies that do not change with the network, on `device` if one is given."""
    return {name: _copied(value, device) for name, value in state_of(network).items()}


def load_state(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Set what `state_of` gave, in place; packed weights stay. Raises RuntimeError as `load_state_dict` does.

    Channels are where the state has them in memory, first or last: the last digit of convolutions depends on it.
    """
    full_state = network.state_dict()  # notes which versions of layers it is of
    for name in [name for name, value in full_state.items() if not _is_packed(value)]:
        del full_state[name]
    full_state.update(state)
    network.load_state_dict(full_state)
    for name, own in network.state_dict(keep_vars=True).items():
        given = state.get(name)
        if isinstance(own, Tensor) and isinstance(given, Tensor) and has_channels_last(own) != has_channels_last(given):
            own.data = with_channels_last(own.data) if has_channels_last(given) else own.data.contiguous()


def has_channels_last(tensor: Tensor) -> bool:
    """Return whether a tensor of 4 or 5 axes has its channels last in memory, and could have them elsewhere."""
    last = _CHANNELS_LAST.get(tensor.ndim)
    if last is None or tensor.layout is not torch.strided or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=last)


def with_channels_last(tensor: Tensor) -> Tensor:
    """Return a tensor of 4 or 5 axes with its channels last in memory. Raises ValueError for one of others."""
    if tensor.ndim not in _CHANNELS_LAST:
        raise ValueError(f"a tensor of {tensor.ndim} axes has no channels")
    return tensor.contiguous(memory_format=_CHANNELS_LAST[tensor.ndim])


def _copied(value: object, device: torch.device | None) -> Any:
    if not isinstance(value, Tensor):  # the extra state of a module
        return copy.deepcopy(value)
    return value.detach().to(device or value.device, copy=True)


def _is_packed(value: object) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_packed, value))
    return isinstance(value, (torch.dtype, torch.ScriptObject)) or (isinstance(value, Tensor) and value.is_quantized)
