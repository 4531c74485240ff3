"""Leaves: which modules of a network count as one layer, and which can be reached at all."""

from collections.abc import Mapping

import torch
from torch import nn

from model_handler.network.truncated_network import RemovedModule, StoppedNetwork

__all__ = ["is_leaf", "last_of_list", "outermost_leaves", "reachable"]

_QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")
_ARITHMETIC = "torch.ao.nn.quantized.modules.functional_modules"  # has methods alone, and is never called itself
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module counts as one layer: torch's own non-container classes, subclasses too, or no children."""
    if next(module.children(), None) is None or isinstance(module, (torch.jit.ScriptModule, StoppedNetwork)):
        return True
    # by the bases, so that a user's subclass of nn.Linear with a submodule of its own stays one layer
    return _is_quantized(module) or any(
        base.__module__.startswith("torch.nn.modules.") and issubclass(base, nn.Module) and base not in _CONTAINERS
        for base in type(module).__mro__
        if base is not nn.Module
    )


def _is_quantized(module: nn.Module) -> bool:
    return any(
        base.__module__.startswith(_QUANTIZED) and base.__module__ != _ARITHMETIC for base in type(module).__mro__
    )


def last_of_list(path: str, modules: Mapping[str, nn.Module]) -> str:
    """Return the path whose output `path` means: a list of modules never runs itself, its last module stands for it."""
    found = modules.get(path)
    while isinstance(found, (nn.ModuleList, nn.ModuleDict)) and len(found):
        path = f"{path}.{list(found._modules)[-1]}"
        found = modules.get(path)
    return path


def reachable(network: nn.Module) -> dict[str, nn.Module]:
    """Return all modules by all their paths, but for removed ones and those inside TorchScript, out of reach."""
    modules = dict(network.named_modules(remove_duplicate=False))
    sealed = tuple(f"{path}." for path, module in modules.items() if isinstance(module, torch.jit.ScriptModule))
    removed = {path for path, module in modules.items() if isinstance(module, RemovedModule)}
    return {path: module for path, module in modules.items() if not path.startswith(sealed) and path not in removed}


def outermost_leaves(network: nn.Module) -> dict[str, nn.Module]:
    """Return the leaves that are not inside another leaf, in order of registration."""
    found: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        inside = found and path.startswith(f"{next(reversed(found))}.")
        if path and is_leaf(module) and not inside and not isinstance(module, RemovedModule):
            found[path] = module
    return found
