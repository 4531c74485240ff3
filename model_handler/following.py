"""Following: an edited network holds the tensors of the networks that it was made from, exchanged ones too.

A parameter or buffer is shared as an object, so training is seen. Some calls exchange the objects (`.double()` does for
buffers, `load_state_dict(assign=True)` for all): these are followed by the place where they are held.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Following"]


class Following:
    """The places of a network's tensors in its origins, the source and the modules that were added."""

    def __init__(self, network: nn.Module, origins: Iterable[nn.Module]) -> None:
        places: dict[int, tuple[nn.Module, str, str]] = {}
        for origin in origins:
            for module, slot, name, tensor in _held(origin):
                places.setdefault(id(tensor), (module, slot, name))
        self._links = [
            (module, name, places[id(tensor)]) for module, _, name, tensor in _held(network) if id(tensor) in places
        ]

    def update(self) -> None:
        """Take over, in place, what the origins hold now under the old names."""
        for module, name, (owner, slot, key) in self._links:
            theirs = vars(owner)[slot].get(key)
            if theirs is not None and theirs is not getattr(module, name):
                setattr(module, name, theirs)  # by setattr: recurrent modules keep a list of their weights


def _held(network: nn.Module) -> Iterable[tuple[nn.Module, str, str, Tensor]]:
    for module in network.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            for slot in ("_parameters", "_buffers"):
                for name, tensor in vars(module)[slot].items():
                    if tensor is not None:
                        yield module, slot, name, tensor
