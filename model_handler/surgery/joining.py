"""Joining: modules run at a place of a traced network, or in the place of a layer; nothing else leaves the network."""

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
    """The output of the network. Raises ModelError for a network of several."""
    return Site(single_output(network, traced, "add_layer_top"), (output_node(traced.graph),))


def insertion_site(network: nn.Module, traced: Trace, name: str, *, before: bool) -> Site:
    """What a layer, an input or a container returns, with all its readers, or `before` it the one value it reads.

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
    node = names.get(path) or _part(name, names) or (exit[0] if exit else inputs.get(name))
    if not isinstance(node, fx.Node) or not node.users:
        raise ModelError(f"{name!r} is no layer whose output is used on the way to the end of the network")
    if not before:
        order = {one: number for number, one in enumerate(traced.graph.nodes)}
        return Site(node, tuple(sorted(node.users, key=order.__getitem__)))
    read = [argument for argument in node.all_input_nodes if argument.op != "get_attr"]
    if len(read) != 1:
        raise ModelError(f"{name!r} reads {[label(one, names) for one in read]}: insert behind one of these instead")
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
    for reader in readers:
        reader.args = fx.map_arg(reader.args, lambda read: result if read is value else read)
        reader.kwargs = fx.map_arg(reader.kwargs, lambda read: result if read is value else read)
    exits.update({path: (fx.map_arg(v, copied.__getitem__), copied[after]) for path, (v, after) in top.exits.items()})
    names = {**base.names, **{copied[node]: name for name, node in names_of(top_network, top).items()}}
    edited = Trace(base.graph, base.input_names, owners, exits, {**base.promoted, **top.promoted}, names)
    added = dict(top_network.named_children())
    return Edited(
        build_network(network, base.graph, added=added, constants=constants, whole=True), edited, _paths(added)
    )


def replace_layer(network: nn.Module, traced: Trace, name: str, module: nn.Module, *, all_calls: bool) -> Edited:
    """Run `module` in the place of a layer, as one layer and under its path, in each of its calls or in one.

    One call of a shared module cannot keep the path: it gets the name of the module's class. Raises ModelError for an
    operation or a container, for a shared module without a word on which calls, and where the old layer has a weight
    that is tied to one of another module and the new one does not have it.
    """
    draft = Draft.of_all(network, traced)
    base, modules = draft.finish_all(), dict(network.named_modules(remove_duplicate=False))
    refuse_inside_of_layer(traced, name)
    if name not in draft.names or draft.names[name].op != "call_module":
        kind = "an operation, which is no module" if name in draft.names else "a container: name the layers in it"
        alias = [one for one, node in draft.names.items() if modules.get(str(node.target)) is modules.get(name)]
        if name in modules and alias:
            kind = f"another name of {alias[0]!r}: name that one"
        raise ModelError(f"replace exchanges one module of layer_names, and {name!r} is {kind}")
    node = draft.now(draft.names[name])
    old = modules[str(node.target)]
    called = [one for one in base.graph.nodes if one.op == "call_module" and modules[str(one.target)] is old]
    calls = {base.names[one]: one for one in called}
    if len(calls) > 1 and not all_calls and "@" not in name:
        raise ModelError(f"{name!r} runs {len(calls)} times, as {list(calls)}: all_calls=True, or one with its '@'")
    new = share_weights(module)
    set_mode(new, network.training)
    if len(calls) > 1 and not all_calls:
        free = next(iter(named_modules([(None, module)], network, base.names.values())))
        node.target = free
        edited = build_network(network, base.graph, added={free: new}, whole=True)
        return Edited(edited, replace(base, names={**base.names, node: free}), _paths({free: new}))
    _refuse_tied(network, old, new)
    replica = share_weights(network)
    copied, paths = replica.get_submodule(str(node.target)), [path for path in modules if modules[path] is old]
    for part in list(replica.modules()):
        for key in [key for key, child in part._modules.items() if child is copied]:  # of TorchScript no dict: none is
            part._modules[key] = new
    return Edited(build_network(replica, base.graph, whole=True), base, _paths(dict.fromkeys(paths, new)))


def _part(name: str, names: Mapping[str, fx.Node]) -> fx.Node | None:
    """The node that takes one part of what a layer returns ("attention[0]"), where the network takes it."""
    stem, index = split_index(name)
    if index is None or stem not in names:
        return None
    return next((one for one in names[stem].users if one.target is getitem and one.args[1] == index), None)


def _traced_top(modules: Mapping[str, nn.Module], training: bool) -> tuple[nn.Module, Trace]:
    """The modules, structure copied and weights shared, in a row and in the mode of the network."""
    top = nn.Sequential()
    for name, module in modules.items():
        top._modules[name] = share_weights(module)
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
        mine, others = [end for end, is_inside in ends if is_inside], [end for end, is_inside in ends if not is_inside]
        if mine and others:
            raise ModelError(
                f"{mine[0]!r} is tied to {others[0]!r}, and a new layer would break the tie: give the new layer that "
                f"very parameter too, or untie the two in your network first"
            )
