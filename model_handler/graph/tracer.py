"""The tracer: torch.fx's own, with our leaves and inputs, which rolls back what cannot be followed and tells why.

One pass only. What becomes of the modules that it promotes to leaves is in `tracing`.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import get_ident
from types import ModuleType
from typing import Any

from torch import fx, nn

from model_handler.graph.gradients import note_switch
from model_handler.graph.leaves import is_leaf
from model_handler.graph.nodes import is_constant, nodes_in, target_name

__all__ = ["Call", "Functions", "OwnThreadTracer", "Tracer"]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # the path of a module, and what it is called with
Functions = dict[Callable[..., Any], ModuleType]  # functions that are one operation, each with who calls it


class OwnThreadTracer(fx.Tracer):
    """torch.fx's tracer, which changes `nn.Module` for the whole process while it traces, kept out of other threads."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._thread = get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: object, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class Tracer(OwnThreadTracer):
    """torch.fx's tracer with our leaves and inputs; it promotes what fails and notes who owns what."""

    def __init__(
        self,
        input_names: Sequence[str],
        promoted: dict[str, str],
        functions: Functions,
        call: Call | None = None,
    ) -> None:
        super().__init__(autowrap_functions=tuple(functions))
        # torch.fx wraps a function in the globals of modules that call it, not where it is defined
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
        self.learns: dict[str, bool] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.promoted or is_leaf(m)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Any, list[Any]]:
        if self.call:
            return self._create_args_for_call(*self.call)
        names = list(self.input_names)
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in names]
        parameters = inspect.signature(root_fn).parameters
        # inputs go by keyword, as any of them may be left at its default; these alone cannot
        positional_only = {name for name in names if _kind_of(parameters, name) is inspect.Parameter.POSITIONAL_ONLY}

        def call(root: nn.Module, *values: object) -> Any:
            inputs = dict(zip(names, values, strict=True))
            leading = [inputs.pop(name) for name in names if name in positional_only]
            return root_fn(root, *leading, **inputs)

        return call, [self.root, *proxies]

    def _create_args_for_call(self, path: str, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        proxies: dict[Any, fx.Proxy] = {
            node: self.create_proxy("placeholder", f"input_{number}", (), {})
            for number, node in enumerate(dict.fromkeys(nodes_in((args, kwargs))))
        }

        def put_in(value: object) -> Any:
            return proxies[value] if isinstance(value, fx.Node) else value

        def call(root: nn.Module, *_: Any) -> Any:
            given, named = fx.node.map_aggregate((args, kwargs), put_in)
            return root.get_submodule(path)(*given, **named)

        return call, [self.root, *proxies.values()]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
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
        if _fits_a_graph(returned):  # of anything else the call alone knows what it is: hooks reach it
            self.exits[path] = (_nodes_of_proxies(returned), next(iter(reversed(self.graph.nodes))))
        return returned

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        note_switch(node)
        owner = self.stack[-1]
        self.owners[node] = owner
        self.stacks[node] = tuple(self.stack)
        script = self.scripts.setdefault(owner, [])
        self.positions[node] = len(script)
        script.append((kind, _name_of_target(target), fx.map_arg((args, kwargs), self._reference)))
        return node

    def _reference(self, node: fx.Node) -> Any:
        """Return where an argument comes from, seen from the module in whose forward it is used."""
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


def _nodes_of_proxies(value: Any) -> Any:
    return fx.node.map_aggregate(value, lambda item: item.node if isinstance(item, fx.Proxy) else item)


def _fits_a_graph(value: Any) -> bool:
    """Tell whether a graph can hold a value: tensors that it computes, None and numbers, in tuples, lists and dicts."""
    if type(value) in (dict, OrderedDict):
        return all(map(_fits_a_graph, value.values()))
    if type(value) in (list, tuple):
        return all(map(_fits_a_graph, value))
    return value is None or isinstance(value, (fx.Proxy, bool, int, float, str))


def _name_of_target(target: object) -> str:
    return "constant" if is_constant(target) else target_name(target) or repr(target)


def _kind_of(parameters: Any, name: str) -> Any:
    return parameters[name].kind if name in parameters else None
