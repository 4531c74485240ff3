"""Additions: modules that are to join a network, checked and named before anything is changed.

How they are joined to a graph is in `joining`.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from model_handler.errors import ModelError
from model_handler.graph.naming import NAME_RULE, is_name
from model_handler.network.replica import share_weights
from model_handler.network.tensors import tensors_of
from model_handler.network.truncated_network import RemovedModule

__all__ = [
    "Modules",
    "is_lazy_module",
    "materialised",
    "named_modules",
    "pairs_of",
    "refuse_familiar",
    "refuse_other_device",
]

Modules = nn.Module | Sequence[nn.Module | tuple[str, nn.Module]]


def pairs_of(modules: Modules) -> list[tuple[str | None, nn.Module]]:
    """Return every module with the name that it was given, if it was. Raises TypeError for anything else."""
    if isinstance(modules, nn.Module):
        return [(None, modules)]
    if not isinstance(modules, (list, tuple)):
        raise TypeError(f"layers to add are torch.nn.Modules or pairs (name, module), got {modules!r}")
    entries: Sequence[Any] = modules
    if isinstance(modules, tuple) and len(modules) == 2 and isinstance(modules[0], str):
        entries = [modules]
    found: list[tuple[str | None, nn.Module]] = []
    for entry in entries:
        name, module = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        if not isinstance(module, nn.Module) or not isinstance(name, (str, type(None))):
            raise TypeError(f"layers to add are torch.nn.Modules or pairs (name, module), got {entry!r}")
        found.append((name, module))
    if not found:
        raise ModelError("there is no module to add: the list is empty")
    return found


def named_modules(
    given: Sequence[tuple[str | None, nn.Module]], network: nn.Module, layers: Iterable[str]
) -> dict[str, nn.Module]:
    """Give every module a name: its own, or a free one made from its class. Raises ModelError for a name taken."""
    # first parts only: an added module stands at the root of the network, under one name
    used = {name.partition(".")[0].partition("@")[0] for name in (*dict(network.named_modules()), *layers)}
    used.update(name for name, _ in given if name is not None)
    named: dict[str, nn.Module] = {}
    seen: set[str] = set()
    for name, module in given:
        if name is None:
            name = _free_module_name(type(module).__name__.removeprefix("Lazy").lower(), used, network)
        elif not is_name(name):
            raise ModelError(f"a layer cannot be named {name!r}: {NAME_RULE}")
        elif name in seen:
            raise ModelError(f"the name {name!r} is given twice; choose another one")
        elif _is_taken(name, network, layers):
            raise ModelError(f"the name {name!r} is taken in the network; choose another one")
        named[name] = module
        seen.add(name)
        used.add(name)
    return named


def refuse_familiar(modules: Sequence[nn.Module], networks: Iterable[nn.Module]) -> None:
    """Raise ModelError for a module that is in one of `networks`, or given twice."""
    present = {part for network in networks for part in network.modules()}
    seen: set[nn.Module] = set()
    for module in modules:
        # in two places it would be one layer that runs twice, and train as that
        if any(part in present for part in module.modules()):
            raise ModelError(f"{type(module).__name__} is already in the network; add a copy: copy.deepcopy(module)")
        if any(part in seen for part in module.modules()):
            raise ModelError(f"the same {type(module).__name__} is given twice; add a copy: copy.deepcopy(module)")
        seen.update(module.modules())


def refuse_other_device(network: nn.Module, named: dict[str, nn.Module]) -> None:
    """Raise ModelError for a module on another device than the network."""
    own = next((tensor.device for tensor in tensors_of(network)), None)
    for name, module in named.items():
        other = next((tensor.device for tensor in tensors_of(module)), own)
        if own is not None and other != own:
            raise ModelError(f"the network is on {own}, {name!r} on {other}; move it first: module.to({str(own)!r})")


def is_lazy_module(module: nn.Module) -> bool:
    """Return whether a module waits for data to learn its sizes."""
    return any(map(is_lazy, tensors_of(module)))


def materialised(named: dict[str, nn.Module], value: object) -> dict[str, nn.Module]:
    """Return the modules with their sizes, found by running them on `value`; the ones given are left as they are."""
    ready = {
        name: _lazy_copy(module) if is_lazy_module(module) else share_weights(module) for name, module in named.items()
    }
    for name, module in ready.items():
        before = value
        try:
            with torch.no_grad():
                value = module.eval()(_on_device_of(module, value))
        except Exception as error:
            shape = tuple(before.shape) if isinstance(before, Tensor) else type(before).__name__
            raise ModelError(f"the added {name!r}, {module!r}, failed on input of shape {shape}: {error}") from error
    return ready


def _free_module_name(stem: str, used: set[str], network: nn.Module) -> str:
    name, number = stem, 2
    while name in used or hasattr(network, name):
        name, number = f"{stem}_{number}", number + 1
    return name


def _is_taken(name: str, network: nn.Module, layers: Iterable[str]) -> bool:
    # the place of a module that truncate took off is free
    if isinstance(network._modules.get(name), RemovedModule):
        return False
    return hasattr(network, name) or any(name == layer.partition(".")[0].partition("@")[0] for layer in layers)


def _lazy_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy; a buffer without a shape, which torch cannot copy, is made again."""
    waiting = [buffer for buffer in module.buffers() if isinstance(buffer, UninitializedBuffer)]
    # `deepcopy` takes what is in the memo for copied already
    memo: dict[int, Any] = {}
    for buffer in waiting:
        memo[id(buffer)] = UninitializedBuffer(device=buffer.device, dtype=buffer.dtype)  # type: ignore[call-arg]
    return copy.deepcopy(module, memo)


def _on_device_of(module: nn.Module, value: object) -> Any:
    parameter = next(module.parameters(), None)
    if not isinstance(value, Tensor) or parameter is None:
        return value
    return torch.zeros_like(value, device=parameter.device) if value.is_meta else value.clone().to(parameter.device)
