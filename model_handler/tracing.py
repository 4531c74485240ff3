"""Tracing: from a network to one graph of its layers, by torch.fx with our own leaf rule.

What cannot be traced becomes a leaf: a module whose `forward` torch.fx cannot follow, a function of this kind that the
network's own `forward` calls, and a module that computes something else in training than in evaluation (an eval-mode
trace would bake its dropout off). Names are given to the nodes in `naming`; running a graph is in `programs`.
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.blaming import function_to_blame
from model_handler.errors import ModelError, UntraceableModelError, nearest
from model_handler.modes import note_modes
from model_handler.pruning import writes_into_constants
from model_handler.stopped_network import StoppedNetwork

__all__ = ["Trace", "default_input_names", "is_leaf", "trace", "trace_call"]

_MODE_DEPENDENT = "computes something else in training than in evaluation"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_FEW_LAYERS = 10  # of so few it matters little that they are listed as one
_Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # the path of a module, and what it is called with

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True, eq=False)
class Trace:
    """A traced network.

    `owners` gives each node the path of the module whose `forward` made it; `exits` gives each container's path the
    value that its last call returned (nodes in nested tuples, lists or dicts) and the node after which it was
    complete; `promoted` gives each module that had to become a leaf the reason; `names` gives layers that were named
    before an edit their name, whatever has gone from around them.
    """

    graph: fx.Graph
    input_names: tuple[str, ...]
    owners: dict[fx.Node, str]
    exits: dict[str, tuple[Any, fx.Node]]
    promoted: dict[str, str] = field(default_factory=dict)
    names: dict[fx.Node, str] = field(default_factory=dict)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module counts as one layer: torch.nn's own non-container classes, subclasses too, or no children."""
    if next(module.children(), None) is None or isinstance(module, (torch.jit.ScriptModule, StoppedNetwork)):
        return True
    return any(
        base.__module__.startswith("torch.nn.modules.") and issubclass(base, nn.Module) and base not in _CONTAINERS
        for base in type(module).__mro__
        if base is not nn.Module
    )


def default_input_names(network: nn.Module) -> tuple[str, ...]:
    """The arguments of `forward` that have no default; the first one where all have."""
    parameters = list(inspect.signature(network.forward).parameters.values())
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return tuple(p.name for p in named if p.default is p.empty) or tuple(p.name for p in named[:1])


def trace(network: nn.Module, input_names: Sequence[str]) -> Trace:
    """The graph of `network` with the named arguments of `forward` as inputs and every other one at its default.

    `network` is left as it was, apart from constants that its `forward` makes, which become buffers of it: give a
    replica. Raises ModelError for a name that `forward` does not have, and UntraceableModelError, naming the reason,
    if the network's own `forward` cannot be followed, or that of a module that holds most of the layers.
    """
    _refuse_unknown_inputs(network, input_names)
    if isinstance(network, StoppedNetwork):
        raise UntraceableModelError(f"the forward of this {type(network).__name__} was cut, and hooks end it")
    modes = {module: module.training for module in network.modules()}
    promoted: dict[str, str] = {}
    functions: dict[Callable[..., Any], ModuleType] = {}
    try:
        while True:
            traced = _settled(network, input_names, promoted, functions, training=False)
            n_functions = len(functions)
            trained = _trained(network, input_names, promoted, functions)
            differing = _mode_dependent(traced, trained, promoted)
            if not differing and len(functions) == n_functions:
                break
            promoted.update(differing)
    finally:
        for module, mode in modes.items():
            module.training = mode
    note_modes(traced.graph, trained.graph if trained else None, dict(network.named_modules()))
    _refuse_hidden_layers(network, promoted)
    _own_constants(network, traced.graph)
    return Trace(traced.graph, tuple(input_names), traced.owners, traced.exits, promoted)


def trace_call(network: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace | None:
    """The graph of one call of a module that is a leaf elsewhere, in evaluation; None where it cannot be followed.

    The nodes in `args` and `kwargs` become its inputs, in the order in which they appear there; paths are those of
    `network`, and `exits` has the module's own. `network` is left as it was: a module that makes constants is not
    followed.
    """
    modes = {module: module.training for module in network.modules()}
    promoted: dict[str, str] = {}
    known = set(vars(network))
    try:
        tracer = _settled(network, (), promoted, {}, training=False, call=(path, args, kwargs))
    except UntraceableModelError:
        return None
    finally:
        for module, mode in modes.items():
            module.training = mode
        constants = set(vars(network)) - known
        for name in constants:
            delattr(network, name)
    if path in promoted or path not in tracer.exits or constants:
        return None
    inputs = tuple(node.name for node in tracer.graph.nodes if node.op == "placeholder")
    return Trace(tracer.graph, inputs, tracer.owners, tracer.exits, promoted)


class _Tracer(fx.Tracer):
    """torch.fx's tracer with our leaves and inputs; it promotes what fails and notes who owns what."""

    def __init__(
        self,
        input_names: Sequence[str],
        promoted: dict[str, str],
        functions: dict[Callable[..., Any], ModuleType],
        call: _Call | None = None,
    ) -> None:
        super().__init__(autowrap_functions=tuple(functions))
        self._autowrap_search.extend(functions.values())
        self.input_names = input_names
        self.call = call
        self.promoted = promoted
        self.newly_promoted: dict[str, str] = {}
        self.stack: list[str] = [""]
        self.owners: dict[fx.Node, str] = {}
        self.stacks: dict[fx.Node, tuple[str, ...]] = {}
        self.exits: dict[str, tuple[Any, fx.Node]] = {}
        self.scripts: dict[str, list[Any]] = {}
        self.positions: dict[fx.Node, int] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.promoted or is_leaf(m)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        if self.call:
            return self._create_args_for_call(*self.call)
        names = list(self.input_names)
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in names]
        parameters = inspect.signature(root_fn).parameters
        positional_only = {name for name in names if _kind(parameters, name) is inspect.Parameter.POSITIONAL_ONLY}

        def call(root: nn.Module, *values: Any) -> Any:
            inputs = dict(zip(names, values, strict=True))
            leading = [inputs.pop(name) for name in names if name in positional_only]
            return root_fn(root, *leading, **inputs)

        return call, [self.root, *proxies]

    def _create_args_for_call(self, path: str, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        nodes: list[fx.Node] = []
        fx.map_arg((args, kwargs), nodes.append)
        proxies: dict[Any, fx.Proxy] = {
            node: self.create_proxy("placeholder", f"input_{number}", (), {})
            for number, node in enumerate(dict.fromkeys(nodes))
        }

        def put_in(value: Any) -> Any:
            return proxies[value] if isinstance(value, fx.Node) else value

        def call(root: nn.Module, *_: Any) -> Any:
            given, named = fx.node.map_aggregate((args, kwargs), put_in)
            return root.get_submodule(path)(*given, **named)

        return call, [self.root, *proxies.values()]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        self.scripts.setdefault(self.stack[-1], []).append(("call", path))
        before, open_calls = next(iter(reversed(self.graph.nodes))), self.module_stack.copy()
        self.stack.append(path)
        try:
            returned = super().call_module(m, forward, args, kwargs)
        except Exception as error:  # whatever a forward raises on a proxy: this module is to be a leaf
            self._roll_back(before)
            self.module_stack = open_calls
            self.newly_promoted[path] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            self.stack.pop()
            return self.create_proxy("call_module", path, args, kwargs)
        self.stack.pop()
        if _is_plain(returned):  # of anything else the call alone knows what it is: hooks reach it
            self.exits[path] = (_nodes(returned), next(iter(reversed(self.graph.nodes))))
        return returned

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        owner = self.stack[-1]
        self.owners[node] = owner
        self.stacks[node] = tuple(self.stack)
        script = self.scripts.setdefault(owner, [])
        self.positions[node] = len(script)
        script.append((kind, _plain(target), fx.map_arg((args, kwargs), self._reference)))
        return node

    def _reference(self, node: fx.Node) -> Any:
        """Where an argument comes from, seen from the module in whose forward it is used."""
        here, there = tuple(self.stack), self.stacks[node]
        if there == here:
            return ("here", self.positions[node])
        if there[: len(here)] == here:
            return ("inside", there[len(here)])
        return ("above",)

    def _roll_back(self, last_good: fx.Node) -> None:
        for node in reversed(list(self.graph.nodes)):
            if node is last_good:
                return
            self.graph.erase_node(node)


def _settled(
    network: nn.Module,
    input_names: Sequence[str],
    promoted: dict[str, str],
    functions: dict[Callable[..., Any], ModuleType],
    *,
    training: bool,
    call: _Call | None = None,
) -> _Tracer:
    """Trace, promoting what fails, until a trace needs no promotion; `promoted` and `functions` grow in place.

    `functions` become one operation each; each has the Python module that calls it.
    """
    for module in network.modules():
        module.training = training
    while True:
        tracer = _Tracer(input_names, promoted, functions, call)
        try:
            with _state_kept(network):
                tracer.trace(network)
            _promote_writers(tracer, dict(network.named_modules()))
        except Exception as error:
            blamed = function_to_blame(error)
            if blamed and blamed[0] not in functions:
                functions[blamed[0]] = blamed[1]
                continue
            raise UntraceableModelError(
                f"the forward of {type(network).__name__} itself cannot be traced: {type(error).__name__}: {error}"
            ) from error
        if not tracer.newly_promoted:
            return tracer
        promoted.update(tracer.newly_promoted)


def _trained(
    network: nn.Module,
    input_names: Sequence[str],
    promoted: dict[str, str],
    functions: dict[Callable[..., Any], ModuleType],
) -> _Tracer | None:
    """The trace in training mode, in which `tracer.promoted` may have grown; None where there is none."""
    try:
        return _settled(network, input_names, dict(promoted), functions, training=True)
    except UntraceableModelError:
        return None


def _mode_dependent(evaluated: _Tracer, trained: _Tracer | None, promoted: dict[str, str]) -> dict[str, str]:
    """The modules, the network itself apart, whose own operations differ between the modes, each with the reason."""
    if trained is None:
        return {}
    differing = {
        path: promoted.get(path, _MODE_DEPENDENT)
        for path, script in evaluated.scripts.items()  # what runs in one mode alone is told by who calls it
        if path and path in trained.scripts and repr(script) != repr(trained.scripts[path])
    }
    return differing or {path: reason for path, reason in trained.promoted.items() if path not in promoted}


@contextmanager
def _state_kept(network: nn.Module) -> Iterator[None]:
    """Undo what a `forward` leaves on its modules (a cache, a count in a buffer); the constants of a trace stay."""
    modules = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    states = [(vars(module), dict(vars(module))) for module in modules]
    boxes = [value for _, before in states for value in before.values() if isinstance(value, (dict, list, set))]
    contents = [copy.copy(box) for box in boxes]
    for state, _ in states:  # a forward may write into these while it is traced, and they are the user's
        for tensors in (state, state.get("_buffers", {})):
            tensors.update({name: value.detach().clone() for name, value in tensors.items() if _is_loose(value)})
        state.update({name: type(state[name])() for name in _HOOKS if name in state})  # they would be given proxies
    try:
        yield
    finally:
        for state, before in states:
            constants = {name: value for name, value in state.items() if name.startswith("_tensor_constant")}
            state.clear()
            state.update({**constants, **before})
        for box, content in zip(boxes, contents, strict=True):
            box.clear()
            box.extend(content) if isinstance(box, list) else box.update(content)


def _is_loose(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def _promote_writers(tracer: _Tracer, modules: dict[str, nn.Module]) -> None:
    """Promote, in place, the modules whose `forward` makes a tensor and writes into it: each run needs a new one."""
    for node in writes_into_constants(tracer.graph, modules):
        owner, reason = tracer.owners[node], f"writes into a tensor that its forward makes ({node.name})"
        if not owner:
            raise TypeError(f"it {reason}")
        tracer.newly_promoted[owner] = reason


def _refuse_unknown_inputs(network: nn.Module, input_names: Sequence[str]) -> None:
    parameters = inspect.signature(network.forward).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        raise UntraceableModelError(f"the forward of {type(network).__name__} takes *args, which cannot be traced")
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    if unknown := [name for name in input_names if name not in parameters]:
        raise ModelError(
            f"the forward of {type(network).__name__} has no argument {', '.join(map(repr, unknown))}; "
            f"nearest: {nearest(unknown[0], parameters)}"
        )


def _refuse_hidden_layers(network: nn.Module, promoted: dict[str, str]) -> None:
    """Raise UntraceableModelError if one promoted module hides most layers: hooks show them all."""
    layers = [path for path, module in network.named_modules() if is_leaf(module) and module._parameters]
    for path, why in promoted.items():
        inside = sum(layer.startswith(f"{path}.") for layer in layers)
        if inside > max(_FEW_LAYERS, len(layers) / 2):
            raise UntraceableModelError(
                f"{path!r}, which holds {inside} of the {len(layers)} layers with weights of {type(network).__name__}, "
                f"cannot be traced: {why}. Listing, features and freezing still work."
            )


def _own_constants(network: nn.Module, graph: fx.Graph) -> None:
    """Make the constants that tracing put on the network buffers of it, so that they follow it to a device."""
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant") and node.target in vars(network):
            network.register_buffer(node.target, vars(network).pop(node.target), persistent=False)


def _nodes(value: Any) -> Any:
    return fx.node.map_aggregate(value, lambda item: item.node if isinstance(item, fx.Proxy) else item)


def _is_plain(value: Any) -> bool:
    """Whether a graph can hold a value: tensors that it computes, None and numbers, in tuples, lists and dicts."""
    if type(value) in (dict, OrderedDict):
        return all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (fx.Proxy, bool, int, float, str))


def _plain(target: Any) -> str:
    name = target if isinstance(target, str) else getattr(target, "__name__", repr(target))
    return "constant" if name.startswith("_tensor_constant") else name


def _kind(parameters: Any, name: str) -> Any:
    return parameters[name].kind if name in parameters else None
