"""Thinning takes blocks out of the containers that run one after another: what is left runs as if they had never been.

The configuration of a network of Hugging Face transformers follows, so that one made of it has as many blocks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from model_handler import ModelError, UnknownLayerError
from model_handler.errors import nearest

__all__ = ["new_name", "thin"]


def thin(network: nn.Module, dropped: Iterable[str]) -> dict[str, str]:
    """Take blocks out of the nn.Sequential or nn.ModuleList that holds them, in place; say what all others are called.

    Numbered items are counted anew. Returns the new path of each module that is left, by its old path. Where a block
    knows its number (`layer_idx` in Hugging Face transformers) or the configuration how many there are, they follow.

    Raises UnknownLayerError for a path that leads to no module, and ModelError for a block that is no item of such a
    container; the network is then unchanged.

    >>> from torch import nn
    >>> from repurpose.offsite.thinning import thin
    >>> network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> thin(network, ["1"])
    {'0': '0', '2': '1'}
    """
    paths = list(dict.fromkeys(dropped))
    for path in paths:
        _check_item(network, path)
    before = {path: module for path, module in network.named_modules() if path}
    by_container: dict[str, set[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition(".")
        by_container.setdefault(parent, set()).add(name)
    containers = [(network.get_submodule(parent), parent, names) for parent, names in by_container.items()]
    for container, parent, names in containers:
        _follow_configuration(network, parent, list(container._modules), names)
        _take_out(container, names)
    after = {module: path for path, module in network.named_modules()}
    return {path: after[module] for path, module in before.items() if module in after}


def new_name(name: str, renames: Mapping[str, str]) -> str:
    """Return the name of a parameter or buffer, after `thin` gave its modules new paths."""
    path, _, own = name.rpartition(".")
    return f"{renames[path]}.{own}" if path else own


def _check_item(network: nn.Module, path: str) -> None:
    modules = dict(network.named_modules(remove_duplicate=False))
    if path not in modules or not path:
        names = [name for name in modules if name]
        near = f"; nearest: {', '.join(nearest(str(path), names))}" if names else ""
        raise UnknownLayerError(f"no module is named {path!r}{near}")
    parent = modules[path.rpartition(".")[0]]
    if not isinstance(parent, (nn.Sequential, nn.ModuleList)):
        raise ModelError(
            f"the block {path!r} cannot be left out: it is no item of an nn.Sequential or nn.ModuleList but an "
            f"attribute of a {type(parent).__name__}, whose forward names it; blocks in a list can"
        )
    if len([name for name, module in modules.items() if module is modules[path]]) > 1:
        raise ModelError(f"the block {path!r} cannot be left out: it stands in the network several times")


def _take_out(container: nn.Module, names: set[str]) -> None:
    """Take items out of a container; numbers are counted anew, and other names stay."""
    items = list(container._modules.items())
    is_numbered = [name for name, _ in items] == [str(number) for number in range(len(items))]
    left = [(name, module) for name, module in items if name not in names]
    for name, _ in items:
        del container._modules[name]
    for number, (name, module) in enumerate(left):
        container.add_module(str(number) if is_numbered else name, module)


def _follow_configuration(network: nn.Module, parent: str, items: Sequence[str], dropped: set[str]) -> None:
    """Set, before blocks are taken out, what a configuration and the blocks themselves say of their number."""
    left = [number for number, name in enumerate(items) if name not in dropped]
    steps = parent.split(".") if parent else []
    owners = [network.get_submodule(".".join(steps[:depth])) for depth in range(len(steps) + 1)]
    configurations = {id(found): found for owner in owners if _counts(found := _configuration(owner), len(items))}
    if not configurations:
        return
    for configuration in configurations.values():
        configuration.num_hidden_layers = len(left)
        per_layer = getattr(configuration, "layer_types", None)
        if isinstance(per_layer, (list, tuple)) and len(per_layer) == len(items):
            configuration.layer_types = [per_layer[number] for number in left]
    container = network.get_submodule(parent)
    for number, old in enumerate(left):
        for module in container.get_submodule(items[old]).modules():
            if vars(module).get("layer_idx") == old:
                vars(module)["layer_idx"] = number


def _configuration(module: nn.Module) -> Any:
    return vars(module).get("config")


def _counts(configuration: Any, n_items: int) -> bool:
    """Tell whether a configuration says that there are as many blocks; its own names for it are mapped by it."""
    count = getattr(configuration, "num_hidden_layers", None)
    return isinstance(count, int) and count == n_items
