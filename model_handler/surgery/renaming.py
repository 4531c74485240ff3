"""Renaming: a module gets another name in the container that holds it, and what it runs is called by that name."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from model_handler.errors import ModelError
from model_handler.graph.graph_network import build_network
from model_handler.graph.naming import NAME_RULE, is_name
from model_handler.graph.tracing import Trace
from model_handler.network.replica import share_weights
from model_handler.surgery.draft import Draft, Edited, is_inside, refuse_inside_of_layer

__all__ = ["rename_module"]


def rename_module(network: nn.Module, traced: Trace, path: str, new_name: str) -> tuple[Edited, Callable[[str], str]]:
    """Give the module at `path` another name: the last part of its path, or the path with another last part.

    Its other names, where it has some, stay. Gives also the function from an old path or key to the new one. Raises
    ModelError for an operation, for a module inside another layer or one that does not run, and for a name that is
    taken or cannot be one.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    owner, _, last = path.rpartition(".")
    _refuse_what_stays(traced, modules, path)
    new = _last_part(owner, new_name)
    draft = Draft.of_all(network, traced)
    if hasattr(modules[owner], new) or f"{owner}.{new}".lstrip(".") in draft.names:
        where = repr(owner) if owner else "the network"
        raise ModelError(f"the name {new!r} is taken in {where}; choose another one")
    # a shared container has several paths, and the module in it gets the new name under each
    owners = [path_of_owner for path_of_owner, module in modules.items() if module is modules[owner]]
    paths = {f"{path_of_owner}.{last}".lstrip("."): f"{path_of_owner}.{new}".lstrip(".") for path_of_owner in owners}

    def renamed(name: str) -> str:
        old = next((old for old in paths if name == old or name.startswith((f"{old}.", f"{old}@"))), None)
        return name if old is None else paths[old] + name[len(old) :]

    base = draft.finish_all()
    names = {}
    for name, node in draft.names.items():
        is_module = node.op == "call_module"
        # an operation that runs elsewhere may bear a name like this from before an edit
        is_meant = is_module or any(is_inside(node, old, traced) for old in paths)
        names[draft.now(node)] = renamed(name) if is_meant else name
    for node in base.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = renamed(str(node.target))
    replica = share_weights(network)
    holder = replica.get_submodule(owner)
    # a new dict in the old order: renaming must not move the module behind its siblings
    holder._modules = {new if key == last else key: child for key, child in holder._modules.items()}
    edited = replace(
        base,
        owners={node: renamed(path_of_owner) for node, path_of_owner in base.owners.items()},
        exits={renamed(path_of_owner): exit for path_of_owner, exit in base.exits.items()},
        promoted={renamed(path_of_owner): why for path_of_owner, why in base.promoted.items()},
        names=names,
    )
    return Edited(build_network(replica, base.graph, keep_unused=True), edited), renamed


def _refuse_what_stays(traced: Trace, modules: dict[str, nn.Module], path: str) -> None:
    if path not in modules:
        called_once = path.partition("@")[0] in modules
        what = "one call of a module" if called_once else "an operation, named for what it computes"
        raise ModelError(f"{path!r} is {what}: only modules are renamed")
    refuse_inside_of_layer(traced, path)
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    insides = {part for leaf in called for part in modules[leaf].modules()}
    if not (set(modules[path].modules()) & insides or any(is_inside(node, path, traced) for node in traced.owners)):
        raise ModelError(f"{path!r} does not run in the forward of the network, so nothing would know its new name")


def _last_part(owner: str, new_name: str) -> str:
    new = new_name.removeprefix(f"{owner}.") if owner else new_name
    if not is_name(new):
        inside = f", or {owner + '.' + new.rpartition('.')[2]!r}" if owner and "." in new else ""
        raise ModelError(f"a module cannot be named {new_name!r}: give the last part of its path{inside}; {NAME_RULE}")
    return new
