"""Depths count how far below the top each parameter is, in blocks, for layer-wise decay of learning rates.

A block is a part of the network that its kind repeats: the outermost module of several layers with weights whose class
occurs more than once, such as a residual block or a transformer's layer. What is in no block counts by single layers,
normalisation with the layer before it.
"""

from collections import Counter
from collections.abc import Collection

from torch import nn

from model_handler.network.layer_types import is_of_type

__all__ = ["depths_from_top"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def depths_from_top(module: nn.Module, new: Collection[str]) -> dict[str, int]:
    """Count the depth of every parameter, by name: 0 for what is new, 1 for the last transferred block, and so on.

    Blocks follow each other in the order of registration, which is that of execution in all but odd networks.
    """
    kinds = Counter(type(part) for part in module.modules() if _is_composite(part))
    repeated = {kind for kind, count in kinds.items() if count > 1 and kind not in _CONTAINERS}
    unit, units, waiting = 0, {}, []
    current = None
    for name, _ in module.named_parameters():
        if name in new:
            continue
        path = _block_of(module, name, repeated)
        if path is None:  # a parameter beside layers, such as a class token: it goes with the layer that follows
            waiting.append(name)
            continue
        if path != current and not (current is not None and is_of_type(module.get_submodule(path), "normalization")):
            unit, current = unit + 1, path
        units.update(dict.fromkeys([*waiting, name], unit))
        waiting = []
    units.update(dict.fromkeys(waiting, unit))
    return {name: 0 if name in new else unit + 1 - units[name] for name, _ in module.named_parameters()}


def _block_of(module: nn.Module, name: str, repeated: set[type]) -> str | None:
    """Find the path of the block that holds a parameter; else of its layer; None if it stands beside layers."""
    parts = name.split(".")[:-1]
    part, path = module, ""
    for step in parts:
        part, path = part.get_submodule(step), f"{path}.{step}".lstrip(".")
        if type(part) in repeated:
            return path
    return None if any(True for _ in part.children()) else path


def _is_composite(module: nn.Module) -> bool:
    """Tell whether a module has at least two modules inside with weights of their own."""
    return sum(bool(part._parameters) for part in module.modules() if part is not module) > 1
