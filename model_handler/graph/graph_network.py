"""Networks that run a graph: what an edited network is, an ordinary `nn.Module` with the modules that were kept.

The kept modules keep their paths, so the keys of the `state_dict` stay those of the source. Unlike a
`torch.fx.GraphModule`, which is rebuilt from its graph by each copy and each load, a `GraphNetwork` is copied and
pickled as any module is, attributes, modes and order of modules included.
"""

import re
from collections.abc import Collection, Mapping
from keyword import kwlist
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.graph.gradients import with_switches
from model_handler.graph.modes import following_mode
from model_handler.graph.nodes import without_keywords
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.network.copying import deep_copy
from model_handler.network.eval_lock import hold
from model_handler.network.replica import share_weights

__all__ = ["OWN_INPUT", "PLAIN_CONTAINERS", "GraphNetwork", "Part", "build_network"]

OWN_INPUT = "own_input"  # in the `meta` of an input: the network writes into it, so it copies it first
PLAIN_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class GraphNetwork(nn.Module):
    """A network whose `forward` is the code of a graph; each graph has a class of its own, made by `build_network`."""

    _source: str
    _names: Mapping[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        # pickle looks classes up by name, and that of a graph is in no module: it is made again from its source
        return _blank, (type(self).__name__, self._source, self._names), self.__getstate__()


class Part(nn.Module):
    """A container of an edited network: it holds modules and weights under their old paths; the graph runs them."""

    def forward(self, *inputs: object, **named: object) -> Any:
        raise ModelError("a container of an edited network holds modules alone: call the network, or a layer in here")


def build_network(
    network: nn.Module,
    graph: fx.Graph,
    *,
    added: Mapping[str, nn.Module] | None = None,
    constants: Mapping[str, Tensor] | None = None,
    keep_unused: bool = False,
) -> nn.Module:
    """Build a network that runs `graph` on modules and weights of `network`; with `keep_unused` it holds all others.

    Structure is copied, weights are shared, aliases stay aliases, and modules keep their order of registration. `added`
    are modules that the graph calls and `network` does not have; they come last, as they are, under their names.
    `constants` are tensors that only the graph knows, no part of the `state_dict`.
    """
    replica = share_weights(network)
    root = _network_like(type(network).__name__, graph)
    filling = _Filling(replica, graph, set(constants or {}), keep_unused)
    filling.fill(root, replica)
    parts = dict(root.named_modules(remove_duplicate=False))
    # containers become `Part`s, which have no `train` of their own any more: what theirs held is held one by one
    for path in _held_by_train(replica, filling.called):
        if path in parts:
            hold(parts[path])
    for name, module in (added or {}).items():
        root._modules[name] = module
    for name, tensor in (constants or {}).items():
        root.register_buffer(name, tensor, persistent=False)
    return root


def _held_by_train(network: nn.Module, kept: Collection[nn.Module]) -> list[str]:
    """Return the paths of what a container keeps in evaluation by a `train` of its own, which an edit takes from it.

    Modules that are `kept` as they are keep theirs. It is found on a deep copy, as it may write into weights.
    """
    own = [module for module in network.modules() if type(module).train is not nn.Module.train]
    if not set(own).difference(kept):
        return []
    spared = {part for module in own if module in kept for part in module.modules()}
    copied: dict[int, nn.Module] = {}
    trained = deep_copy(network, copied)
    trained.train()
    modules = network.named_modules(remove_duplicate=False)
    return [path for path, module in modules if module not in spared and not copied[id(module)].training]


class _Filling:
    """Gives the parts of a new network what a graph uses of `replica`; with `keep_unused`, what it does not use too."""

    def __init__(self, replica: nn.Module, graph: fx.Graph, constants: set[str], keep_unused: bool) -> None:
        self.keep_unused = keep_unused
        self.called: set[nn.Module] = set()
        self.read: dict[nn.Module, set[str]] = {}
        self.done: dict[nn.Module, nn.Module | None] = {}  # each module once, so that aliases stay aliases
        modules = dict(replica.named_modules(remove_duplicate=False))
        for node in graph.nodes:
            path = str(node.target)
            if node.op == "call_module" and path in modules:
                self.called.add(modules[path])
            elif node.op == "get_attr" and path not in constants and path.rpartition(".")[0] in modules:
                owner, _, name = path.rpartition(".")
                layer = modules[owner]
                if isinstance(layer, AdaptedLayer) and name in layer._adapter.targets:
                    self.called.add(layer)  # what is read is made of its other parameters too
                self.read.setdefault(modules[owner], set()).add(name)
        # a layer whose weights another one reads, all of them, is kept as what it is: adapters go by its type
        self.called.update(layer for layer, names in self.read.items() if _is_all_read(layer, names))

    def fill(self, part: nn.Module, module: nn.Module) -> nn.Module | None:
        """Give `part`, in place, what is used of `module`; None where nothing is."""
        part.training = module.training
        is_used = module in self.read
        for name, child in module._modules.items():
            if child is None:
                continue
            kept = child if child in self.called else self._part_of(child)
            is_used = is_used or kept is not None
            if kept is not None or self.keep_unused:
                part._modules[name] = child if kept is None else kept
        if not is_used:
            return None
        used = self.read.get(module, set())
        order = [*module._parameters, *module._buffers]  # buffers stay: a constant of the graph may have come from one
        kept_names = [name for name in order if self.keep_unused or name in used or name in module._buffers]
        for name in [*kept_names, *sorted(used - set(order))]:
            _hold(part, module, name)
        return part

    def _part_of(self, module: nn.Module) -> nn.Module | None:
        if module not in self.done:
            kind = type(module) if type(module) in PLAIN_CONTAINERS else Part
            self.done[module] = self.fill(kind(), module)
        return self.done[module]


def _is_all_read(layer: nn.Module, names: Collection[str]) -> bool:
    held = {name for name, parameter in layer._parameters.items() if parameter is not None}
    return not layer._modules and held.issubset(names)


def _hold(part: nn.Module, module: nn.Module, name: str) -> None:
    if name in module._parameters:
        part._parameters[name] = module._parameters[name]
        return
    value = getattr(module, name)
    if isinstance(value, Tensor) or value is None:
        persistent = name in module._buffers and name not in module._non_persistent_buffers_set
        part.register_buffer(name, value, persistent=persistent)
    else:
        setattr(part, name, value)


def _network_like(name: str, graph: fx.Graph) -> GraphNetwork:
    code = _without_keywords(with_switches(following_mode(_with_own_inputs(graph)))).python_code("self")
    source = re.sub(rf'"({"|".join(kwlist)}) "\)', r'"\1")', code.src)  # the true names again, now in quotes
    return _blank(name, source, {key: _by_name(value) for key, value in code.globals.items()}, initialised=True)


def _without_keywords(graph: fx.Graph) -> fx.Graph:
    """Return the graph with paths that can be written as code; see `without_keywords`."""
    paths = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    if all(without_keywords(path) == path for path in paths):
        return graph
    spelled = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copied[node] = spelled.node_copy(node, copied.__getitem__)
        if node.op in ("call_module", "get_attr"):
            copied[node].target = without_keywords(str(node.target))
    return spelled


def _with_own_inputs(graph: fx.Graph) -> fx.Graph:
    """Make a copy first of each input that the graph writes into and that was no input before an edit."""
    if not any(OWN_INPUT in node.meta for node in graph.nodes):
        return graph
    copied: dict[fx.Node, fx.Node] = {}
    own = fx.Graph()
    for node in graph.nodes:
        copied[node] = own.node_copy(node, copied.__getitem__)
        if OWN_INPUT in node.meta:
            copied[node] = own.call_method("clone", (copied[node],))
    return own


def _blank(name: str, source: str, names: Mapping[str, Any], *, initialised: bool = False) -> GraphNetwork:
    """Return an instance of a class made for one graph: `source` is its forward, `names` what this refers to."""
    namespace = {key: value.load() if isinstance(value, _Module) else value for key, value in names.items()}
    exec(compile(source, f"<forward of an edited {name}>", "exec"), namespace)
    kind: type[GraphNetwork] = type(
        name, (GraphNetwork,), {"forward": namespace["forward"], "_source": source, "_names": names}
    )
    kind.__module__, kind.__doc__ = __name__, f"An edited {name}: see its `_source` for the forward."
    # copies and files bring their state along, so `__init__` is for new networks alone
    return kind() if initialised else GraphNetwork.__new__(kind)


class _Module:
    """A Python module by its name: what pickle can hold of one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> ModuleType:
        return torch if self.name == "torch" else __import__(self.name, fromlist=["_"])


def _by_name(value: object) -> Any:
    return _Module(value.__name__) if isinstance(value, ModuleType) else value
