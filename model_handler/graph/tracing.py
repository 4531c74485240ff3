"""Tracing: from a network to one graph of its layers, by torch.fx with our own leaf rule.

What cannot be traced becomes a leaf: a module whose `forward` torch.fx cannot follow, a function of this kind that the
network's own `forward` calls, and a module that computes something else in training than in evaluation (an eval-mode
trace would bake its dropout off). `tracer` makes one pass; here passes are made until nothing more has to become one.
Names are given to the nodes in `naming`; running a graph is in `programs`.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.data.labels import LABEL_KEY, near_keys
from model_handler.errors import ModelError, UntraceableModelError, nearest
from model_handler.graph.dependencies import writes_into_constants
from model_handler.graph.gradients import functions_as_nodes
from model_handler.graph.leaves import is_leaf
from model_handler.graph.modes import note_modes
from model_handler.graph.nodes import is_constant
from model_handler.graph.trace_errors import function_to_blame, line_to_blame
from model_handler.graph.tracer import Call, Functions, Tracer
from model_handler.network.adapted_layer import adapted_layers
from model_handler.network.replica import requires_grad_kept
from model_handler.network.truncated_network import StoppedNetwork

__all__ = ["Trace", "trace", "trace_call", "while_traced"]

_MODE_DEPENDENT = "computes something else in training than in evaluation"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_FEW_LAYERS = 10  # of so few it matters little that they are listed as one


@dataclass(frozen=True, eq=False)
class Trace:
    """A traced network.

    `owners` gives each node the path of the module whose `forward` made it; `exits` gives each container's path the
    value that its last call returned (nodes in nested tuples, lists or dicts) and the node after which it was
    complete; `promoted` gives each module that had to become a leaf the reason; `names` gives layers that were named
    before an edit their name, whatever has gone from around them; `learns` has the parameters whose `requires_grad` the
    `forward` itself changes in training, and to what.
    """

    graph: fx.Graph
    input_names: tuple[str, ...]
    owners: dict[fx.Node, str]
    exits: dict[str, tuple[Any, fx.Node]]
    promoted: dict[str, str] = field(default_factory=dict)
    names: dict[fx.Node, str] = field(default_factory=dict)
    learns: dict[str, bool] = field(default_factory=dict)


def trace(network: nn.Module, input_names: Sequence[str], closed: Mapping[str, str] | None = None) -> Trace:
    """Trace `network` with the named arguments of `forward` as inputs and every other one at its default.

    `closed` are the paths of modules that are to be leaves, each with the reason.

    `network` is left as it was, apart from constants that its `forward` makes, which become buffers of it: give a
    replica. Raises ModelError for a name that `forward` does not have, and UntraceableModelError, naming the reason,
    if the network's own `forward` cannot be followed, or that of a module that holds most of the layers.
    """
    _refuse_unknown_inputs(network, input_names)
    if isinstance(network, StoppedNetwork):
        raise UntraceableModelError(f"the forward of this {type(network).__name__} was cut, and hooks end it")
    if counting := [path for path, layer in adapted_layers(network).items() if layer._adapter.counts_calls]:
        raise UntraceableModelError(
            f"an adapter of {type(network).__name__} acts in one call of {counting[0]!r}, which only its forward counts"
        )
    modes = {module: module.training for module in network.modules()}
    promoted = dict(closed or {})
    functions: Functions = {}
    try:
        while True:
            traced = _traced_with_leaves(network, input_names, promoted, functions, training=False)
            # what training finds holds in evaluation too, so both traces are made again until neither finds more
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
    # training decides what learns: a `forward` may switch weights on there alone
    learns = (trained or traced).learns
    return Trace(traced.graph, tuple(input_names), traced.owners, traced.exits, promoted, learns=learns)


def trace_call(network: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace | None:
    """Trace one call of a module that is a leaf elsewhere, in evaluation; None where it cannot be followed.

    The nodes in `args` and `kwargs` become its inputs, in the order in which they appear there; paths are those of
    `network`, and `exits` has the module's own. `network` is left as it was: a module that makes constants is not
    followed.
    """
    modes = {module: module.training for module in network.modules()}
    promoted: dict[str, str] = {}
    known = set(vars(network))
    try:
        tracer = _traced_with_leaves(network, (), promoted, {}, training=False, call=(path, args, kwargs))
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


def _set_by_forward(network: nn.Module, changed: list[Tensor]) -> dict[str, bool]:
    """Find which parameters a `forward` that `changed` them made to learn or not; they are again as before."""
    touched = set(map(id, changed))
    named = network.named_parameters(remove_duplicate=False)
    return {name: not parameter.requires_grad for name, parameter in named if id(parameter) in touched}


def _traced_with_leaves(
    network: nn.Module,
    input_names: Sequence[str],
    promoted: dict[str, str],
    functions: Functions,
    *,
    training: bool,
    call: Call | None = None,
) -> Tracer:
    """Trace, promoting what fails, until a trace needs no promotion; `promoted` and `functions` grow in place.

    `functions` become one operation each; each has the Python module that calls it.
    """
    for module in network.modules():
        module.training = training
    while True:
        tracer = Tracer(input_names, promoted, functions, call)
        try:
            with while_traced(network) as changed:
                tracer.trace(network)
            tracer.learns = _set_by_forward(network, changed)
            _promote_writers(tracer, dict(network.named_modules()))
        except Exception as error:
            blamed = function_to_blame(error)
            if blamed and blamed[0] not in functions:
                functions[blamed[0]] = blamed[1]
                continue
            raise UntraceableModelError(
                f"the forward of {type(network).__name__} itself cannot be traced: {type(error).__name__}: "
                f"{error}{line_to_blame(error)}"
            ) from error
        if not tracer.newly_promoted:
            return tracer
        promoted.update(tracer.newly_promoted)


def _trained(
    network: nn.Module,
    input_names: Sequence[str],
    promoted: dict[str, str],
    functions: Functions,
) -> Tracer | None:
    """Return the trace in training mode, in which `tracer.promoted` may have grown; None where there is none."""
    try:
        return _traced_with_leaves(network, input_names, dict(promoted), functions, training=True)
    except UntraceableModelError:
        return None


def _mode_dependent(evaluated: Tracer, trained: Tracer | None, promoted: dict[str, str]) -> dict[str, str]:
    """Find the modules, but for the network itself, whose own operations differ between modes, each with the reason."""
    if trained is None:
        return {}
    differing = {
        path: promoted.get(path, _MODE_DEPENDENT)
        for path, script in evaluated.scripts.items()  # what runs in one mode alone is told by who calls it
        if path and path in trained.scripts and repr(script) != repr(trained.scripts[path])
    }
    return differing or {path: reason for path, reason in trained.promoted.items() if path not in promoted}


@contextmanager
def while_traced(network: nn.Module) -> Iterator[list[Tensor]]:
    """Undo what a `forward` that is traced in this block leaves on its network.

    It gives a list that in the end holds the parameters that the `forward` made to learn or not.
    """
    # autograd is on where a trace begins: a node made without it is one that the network makes so
    with (
        _state_kept(network),
        torch.inference_mode(False),
        torch.enable_grad(),
        functions_as_nodes(),
        requires_grad_kept(network) as changed,
    ):
        yield changed


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
            constants = {name: value for name, value in state.items() if is_constant(name)}
            state.clear()
            state.update({**constants, **before})
        for box, content in zip(boxes, contents, strict=True):
            box.clear()
            box.extend(content) if isinstance(box, list) else box.update(content)


def _is_loose(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def _promote_writers(tracer: Tracer, modules: dict[str, nn.Module]) -> None:
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
        hint = f"; if {near[0]!r} is the label, its key is {LABEL_KEY!r}" if (near := near_keys(unknown)) else ""
        raise ModelError(
            f"the forward of {type(network).__name__} has no argument {', '.join(map(repr, unknown))}; "
            f"nearest: {nearest(unknown[0], parameters)}{hint}"
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
        if node.op == "get_attr" and is_constant(node.target) and node.target in vars(network):
            constant = vars(network).pop(node.target)
            if constant.is_inference():  # as the `forward` may make it; no gradient could go past it
                constant = constant.clone()
            network.register_buffer(node.target, constant, persistent=False)
