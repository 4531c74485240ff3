"""Depths count how far below the top each parameter is, in blocks, for layer-wise decay of learning rates.

Blocks are those that `ModelHandler.blocks` finds. In a network without such a chain a block is a part that its kind
repeats: the outermost module of several layers with weights whose class occurs more than once. What is in no block
counts by single layers, normalisation with the layer before it.
"""

from collections import Counter
from collections.abc import Collection

from torch import nn

from model_handler.graph.naming import module_path
from model_handler.network.layer_types import is_of_type

__all__ = ["depths_from_top"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def depths_from_top(module: nn.Module, new: Collection[str], blocks: Collection[str] = ()) -> dict[str, int]:
    """Count the depth of every parameter, by name: 0 for what is new, 1 for the last transferred block, and so on.

    `blocks` are the names of the chain's blocks, those among them that the module does not have left out. They follow
    each other in the order of registration, which is that of execution in all but odd networks.
    """
    units_of = _paths_of_blocks(module, blocks) or _paths_of_repeated(module)
    unit, units, waiting = 0, {}, []
    current = None
    for name, _ in module.named_parameters():
        if name in new:
            continue
        path = _block_of(module, name, units_of)
        if path is None:  # a parameter beside layers, such as a class token: it goes with the layer that follows
            waiting.append(name)
            continue
        if path != current and not (current is not None and is_of_type(module.get_submodule(path), "normalization")):
            unit, current = unit + 1, path
        units.update(dict.fromkeys([*waiting, name], unit))
        waiting = []
    units.update(dict.fromkeys(waiting, unit))
    return {name: 0 if name in new else unit + 1 - units[name] for name, _ in module.named_parameters()}


def _paths_of_blocks(module: nn.Module, blocks: Collection[str]) -> set[str]:
    paths = {module_path(name) for name in blocks}
    return {path for path, _ in module.named_modules() if path in paths}


def _paths_of_repeated(module: nn.Module) -> set[str]:
    kinds = Counter(type(part) for part in module.modules() if _is_composite(part))
    repeated = {kind for kind, count in kinds.items() if count > 1 and kind not in _CONTAINERS}
    return {path for path, part in module.named_modules(remove_duplicate=False) if type(part) in repeated}


def _block_of(module: nn.Module, name: str, blocks: Collection[str]) -> str | None:
    """Find the path of the outermost block that holds a parameter; else of its layer; None if it is beside layers."""
    parts = name.split(".")[:-1]
    paths = [".".join(parts[: end + 1]) for end in range(len(parts))]
    if found := next((path for path in paths if path in blocks), None):
        return found
    path = ".".join(parts)
    return None if any(True for _ in module.get_submodule(path).children()) else path


def _is_composite(module: nn.Module) -> bool:
    """Tell whether a module has at least two modules inside with weights of their own."""
    return sum(bool(part._parameters) for part in module.modules() if part is not module) > 1
