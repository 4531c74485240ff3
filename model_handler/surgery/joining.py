"""Joining inserts modules at a place of a traced network, or in the place of a layer; nothing else leaves it."""

from collections.abc import Mapping
from dataclasses import replace
from operator import getitem

from torch import Tensor, fx, nn

from model_handler.errors import ModelError, UntraceableModelError
from model_handler.extraction.gradient_check import hooked_containers
from model_handler.graph.graph_network import build_network
from model_handler.graph.leaves import last_of_list
from model_handler.graph.naming import split_index
from model_handler.graph.nodes import CONSTANT, is_constant, output_node
from model_handler.graph.tracing import Trace, trace
from model_handler.network.inputs import default_input_names
from model_handler.network.replica import set_mode, share_weights
from model_handler.surgery.additions import named_modules
from model_handler.surgery.draft import (
    Draft,
    Edited,
    Site,
    label,
    names_of,
    refuse_inside_of_layer,
    single_output,
)

__all__ = ["insertion_site", "join", "replace_layer", "top_site"]


def top_site(network: nn.Module, traced: Trace) -> Site:
    """Return the output of the network. Raises ModelError for a network of several."""
    return Site(single_output(network, traced, "add_layer_top"), (output_node(traced.graph),))


def insertion_site(network: nn.Module, traced: Trace, name: str, *, before: bool) -> Site:
    """Find what a layer, input or container returns, with all its readers, or `before` it the one value it reads.

    Raises ModelError if nothing reads the output, or, with `before`, for what is no layer or reads several values.
    """
    names = names_of(network, traced)
    refuse_inside_of_layer(traced, name)
    inputs = {str(node.target): node for node in traced.graph.nodes if node.op == "placeholder"}
    if before and name in inputs and name not in names:
        raise ModelError(
            f"{name!r} is an input of the network, which nothing comes before: insert_after({name!r}, ...)"
        )
    if before and name not in names:
        raise ModelError(f"insert_before needs a layer, one of layer_names, and {name!r} is none: insert_after(...)")
    path = name if name in traced.exits else last_of_list(name, dict(network.named_modules(remove_duplicate=False)))
    exit = traced.exits.get(path)
    node = names.get(path) or _node_of_part(name, names) or (exit[0] if exit else inputs.get(name))
    if not isinstance(node, fx.Node) or not node.users:
        raise ModelError(f"{name!r} is no layer whose output is used on the way to the end of the network")
    if not before:
        order = {other: number for number, other in enumerate(traced.graph.nodes)}
        return Site(node, tuple(sorted(node.users, key=order.__getitem__)))
    read = [argument for argument in node.all_input_nodes if argument.op != "get_attr"]
    if len(read) != 1:
        raise ModelError(
            f"{name!r} reads {[label(argument, names) for argument in read]}: insert behind one of these instead"
        )
    return Site(read[0], (node,))


def join(network: nn.Module, traced: Trace, site: Site, modules: Mapping[str, nn.Module]) -> Edited:
    """Run `modules`, one after the other, on the value of a site, and give the result to its readers.

    Their names must be free; their insides become layers too. Raises ModelError where they cannot be traced.
    """
    draft = Draft.of_all(network, traced)
    base = draft.finish_all()
    value, readers = draft.now(site.value), [draft.now(reader) for reader in site.readers]
    owners, exits = dict(base.owners), dict(base.exits)
    top_network, top = _traced_top(modules, network.training)
    constants: dict[str, Tensor] = {}
    copied: dict[fx.Node, fx.Node] = {}
    # right before the first reader: a write into the value between would be missed behind its maker
    with base.graph.inserting_before(readers[0]):
        for node in top.graph.nodes:
            if node.op == "placeholder":
                copied[node] = value
            elif node.op == "output":
                result = fx.map_arg(node.args[0], copied.__getitem__)
            else:
                copied[node] = base.graph.node_copy(node, copied.__getitem__)
                copied[node].type = None
                owners[copied[node]] = top.owners[node]
                if is_constant(node.target):
                    copied[node].target = name = _free_constant(network, constants)
                    constants[name] = getattr(top_network, str(node.target))
    # only the readers that are meant: `insert_before` leaves the others the value as it was
    for reader in readers:
        reader.args = fx.map_arg(reader.args, lambda read: result if read is value else read)
        reader.kwargs = fx.map_arg(reader.kwargs, lambda read: result if read is value else read)
    exits.update({path: (fx.map_arg(v, copied.__getitem__), copied[after]) for path, (v, after) in top.exits.items()})
    names = {**base.names, **{copied[node]: name for name, node in names_of(top_network, top).items()}}
    edited = Trace(base.graph, base.input_names, owners, exits, {**base.promoted, **top.promoted}, names)
    added = dict(top_network.named_children())
    return Edited(
        build_network(network, base.graph, added=added, constants=constants, keep_unused=True), edited, _paths(added)
    )


def replace_layer(network: nn.Module, traced: Trace, name: str, module: nn.Module, *, all_calls: bool) -> Edited:
    """Run `module` in the place of a layer, as one layer and under its path, in each of its calls or in one.

    One call of a shared module cannot keep the path: it gets the name of the module's class. Raises ModelError for an
    operation or a container, for a shared module without a word on which calls, and where the old layer has a weight
    that is tied to one of another module and the new one does not have it.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    names = names_of(network, traced)
    _refuse_no_layer(traced, names, modules, name)
    old = modules[str(names[name].target)]
    calls = [other for other, node in names.items() if node.op == "call_module" and modules[str(node.target)] is old]
    everywhere = len(calls) == 1 or all_calls
    if not everywhere and "@" not in name:
        raise ModelError(f"{name!r} runs {len(calls)} times, as {calls}: all_calls=True, or one with its '@'")
    new = share_weights(module)
    set_mode(new, network.training)
    if not everywhere:
        return _replaced_in_one_call(network, traced, names[name], new)
    _refuse_tied(network, old, new)
    return _replaced_everywhere(network, traced, old, new)


def _refuse_no_layer(traced: Trace, names: Mapping[str, fx.Node], modules: Mapping[str, nn.Module], name: str) -> None:
    """Raise ModelError for what is not one module of the layers, saying what it is."""
    refuse_inside_of_layer(traced, name)
    if name in names and names[name].op == "call_module":
        return
    kind = "an operation, which is no module" if name in names else "a container: name the layers in it"
    alias = [layer for layer, node in names.items() if modules.get(str(node.target)) is modules.get(name)]
    if name in modules and alias:
        kind = f"another name of {alias[0]!r}: name that one"
    raise ModelError(f"replace exchanges one module of layer_names, and {name!r} is {kind}")


def _replaced_in_one_call(network: nn.Module, traced: Trace, node: fx.Node, new: nn.Module) -> Edited:
    """Run `new`, under a free name, in the place of one node's module; other calls run the old one."""
    draft = Draft.of_all(network, traced)
    base, call = draft.finish_all(), draft.now(node)
    free = next(iter(named_modules([(None, new)], network, base.names.values())))
    call.target = free
    edited = build_network(network, base.graph, added={free: new}, keep_unused=True)
    return Edited(edited, replace(base, names={**base.names, call: free}), _paths({free: new}))


def _replaced_everywhere(network: nn.Module, traced: Trace, old: nn.Module, new: nn.Module) -> Edited:
    """Return the network with `new` under every path that `old` had."""
    paths = [path for path, module in network.named_modules(remove_duplicate=False) if module is old]
    replica = share_weights(network)
    copied = replica.get_submodule(paths[0])
    for part in list(replica.modules()):
        for key in [key for key, child in part._modules.items() if child is copied]:  # of TorchScript no dict: none is
            part._modules[key] = new
    base = Draft.of_all(network, traced).finish_all()
    return Edited(build_network(replica, base.graph, keep_unused=True), base, _paths(dict.fromkeys(paths, new)))


def _node_of_part(name: str, names: Mapping[str, fx.Node]) -> fx.Node | None:
    """Return the node that takes one part of what a layer returns ("attention[0]"), where the network takes it."""
    stem, index = split_index(name)
    if index is None or stem not in names:
        return None
    readers = names[stem].users
    return next((node for node in readers if node.target is getitem and node.args[1] == index), None)


def _traced_top(modules: Mapping[str, nn.Module], training: bool) -> tuple[nn.Module, Trace]:
    """Return the modules, structure copied and weights shared, in a row and in the mode of the network."""
    top = nn.Sequential()
    for name, module in modules.items():
        top._modules[name] = share_weights(module)  # add_module refuses names that nn.Sequential has itself
    set_mode(top, training)
    try:
        return top, trace(top, default_input_names(top), hooked_containers(top))
    except UntraceableModelError as error:
        raise ModelError(f"the added modules cannot be run one after the other: {error}") from error


def _free_constant(network: nn.Module, taken: Mapping[str, Tensor]) -> str:
    number = 0
    while hasattr(network, f"{CONSTANT}{number}") or f"{CONSTANT}{number}" in taken:
        number += 1
    return f"{CONSTANT}{number}"


def _paths(modules: Mapping[str, nn.Module]) -> frozenset[str]:
    inside = ((path, key) for path, module in modules.items() for key, _ in module.named_modules())
    return frozenset(f"{path}.{key}".rstrip(".") for path, key in inside)


def _refuse_tied(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Refuse to break a tie: the other module would go on with a weight of its own, which nobody asked for."""
    kept, inside = {id(parameter) for parameter in new.parameters()}, set(old.modules())
    owners: dict[int, list[tuple[str, bool]]] = {}
    for path, module in network.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in kept:
                owners.setdefault(id(parameter), []).append((f"{path}.{key}".lstrip("."), module in inside))
    for ends in owners.values():
        leaving = [name for name, is_inside in ends if is_inside]
        staying = [name for name, is_inside in ends if not is_inside]
        if leaving and staying:
            raise ModelError(
                f"{leaving[0]!r} is tied to {staying[0]!r}, and a new layer would break the tie: give the new layer "
                f"that very parameter too, or untie the two in your network first"
            )
