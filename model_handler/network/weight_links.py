"""Weight links: whether a network still holds what it did, and how an edited one takes over what its origins hold now.

A parameter or buffer is shared as an object, so training is seen. Some calls exchange the objects (`.double()` does for
buffers, `load_state_dict(assign=True)` for all): these are followed by the place where they are held.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.network.tensors import named_tensors

__all__ = ["StateIdentity", "WeightLinks"]


class WeightLinks:
    """The places of a network's tensors in its origins, the source and the modules that were added."""

    def __init__(self, network: nn.Module, origins: Iterable[nn.Module]) -> None:
        places: dict[int, tuple[nn.Module, str, str]] = {}
        for origin in origins:
            for module, slot, name, tensor in _held_tensors(origin):
                # the first origin that holds a tensor: an edit may add a module that shares one with the source
                places.setdefault(id(tensor), (module, slot, name))
        self._links = [
            (module, slot, name, places[id(tensor)])
            for module, slot, name, tensor in _held_tensors(network)
            if id(tensor) in places
        ]

    def update(self) -> None:
        """Take over, in place, what the origins hold now under the old names."""
        for module, own_slot, name, (owner, slot, key) in self._links:
            current = vars(owner)[slot].get(key)
            # what an adapted layer holds is not what reading its attribute gives
            if current is not None and current is not vars(module)[own_slot].get(name):
                setattr(module, name, current)  # by setattr: recurrent modules keep a list of their weights


class StateIdentity:
    """The tensors and modules that a network holds, under all their names, and what of a tensor `.data` can change."""

    def __init__(self, network: nn.Module) -> None:
        modules = network.named_modules(remove_duplicate=False)
        self._entries: list[tuple[Any, ...]] = [
            # objects alone do not tell: `.data =` and `.to()` change dtype and device of the same parameter
            *((tensor, name, tensor.dtype, tensor.device) for name, tensor in named_tensors(network)),
            *((module, path) for path, module in modules),
        ]

    def is_same_as(self, other: "StateIdentity") -> bool:
        """Return whether both are of the same objects."""
        if [entry[1:] for entry in self._entries] != [entry[1:] for entry in other._entries]:
            return False
        return all(held[0] is others[0] for held, others in zip(self._entries, other._entries))


def _held_tensors(network: nn.Module) -> Iterable[tuple[nn.Module, str, str, Tensor]]:
    for module in network.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            for slot in ("_parameters", "_buffers"):
                for name, tensor in vars(module)[slot].items():
                    if tensor is not None:
                        yield module, slot, name, tensor
