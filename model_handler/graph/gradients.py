"""Gradients: custom `autograd.Function`s and `no_grad` regions of a network are kept in its graph.

torch.fx sees neither of two things: `torch.no_grad()` and its kin set a switch of the thread, and `apply` of an
`autograd.Function` would run the function's `forward` on proxies, its `backward` forgotten. So each node that was made
while autograd was off says so in its `meta`, and a graph that is run, or becomes the code of a network, switches it off
there; and an `autograd.Function` is one operation. Checkpointing (`torch.utils.checkpoint`) computes the same gradients
in less memory: what it runs is followed, and an edited network does without. That the gradients are right is checked in
`extraction.gradient_check`.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.autograd import Function
from torch.utils.checkpoint import CheckpointFunction

from model_handler.graph.nodes import target_name

__all__ = ["Applied", "Switched", "functions_as_nodes", "note_switch", "pair_switches", "switched", "with_switches"]

_WITHOUT = "without_gradient"  # in the `meta` of a node: whether autograd is off there, in evaluation and in training


class Applied:
    """An `autograd.Function` as the target of a node: it can be pickled and compared, as its bound `apply` cannot."""

    def __init__(self, function: type[Function]) -> None:
        self.function = function
        self.__name__, self.__module__ = function.__name__, function.__module__

    def __call__(self, *inputs: object, **options: object) -> Any:
        return self.function.apply(*inputs, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Applied) and self.function is other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __reduce__(self) -> tuple[Any, ...]:
        return Applied, (self.function,)


class Switched:
    """A function that computes with autograd on, where it is on around it, or off: its first argument says which."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = f"{target_name(function)}_switched"

    def __call__(self, enabled: bool, *inputs: object, **options: object) -> Any:
        with torch.set_grad_enabled(enabled and torch.is_grad_enabled()):
            return self.function(*inputs, **options)


@contextmanager
def functions_as_nodes() -> Iterator[None]:
    """Make one node, inside this block, of each `autograd.Function` that is applied to proxies.

    `apply` is compiled, and many keep it under a name of their own: whoever calls it, it then calls the `forward` of
    the class, and this is what is exchanged for a while. There autograd is off in any case; whether it was on before is
    told by `apply`, where it is called as that, and else taken for granted.
    """
    modes: list[bool] = []
    plain = vars(Function)["apply"]

    def apply(cls: object, *inputs: object, **options: object) -> Any:
        if not _proxies((*inputs, *options.values())):
            return plain.__get__(None, cls)(*inputs, **options)
        modes.append(torch.is_grad_enabled())  # a stack: a function may apply another one
        try:
            return plain.__get__(None, cls)(*inputs, **options)
        finally:
            modes.pop()

    exchanged: list[tuple[Any, str, Any]] = [(Function, "apply", classmethod(apply))]
    for cls in _functions():
        has_setup = cls.setup_context is not Function.setup_context
        exchanged.append((cls, "forward", staticmethod(_noting(cls, has_setup, modes))))
        if has_setup:
            exchanged.append((cls, "setup_context", staticmethod(_setting_up(cls))))
    # by `vars`: a method that is inherited must be inherited again afterwards, not become the class's own
    before = [(cls, name, vars(cls).get(name)) for cls, name, _ in exchanged]
    try:
        for cls, name, method in exchanged:
            setattr(cls, name, method)
        yield
    finally:
        for cls, name, own in before:
            delattr(cls, name) if own is None else setattr(cls, name, own)


def _noting(cls: Any, has_setup: bool, modes: list[bool]) -> Callable[..., Any]:
    """Return the `forward` of a function, which makes a node of proxies; `modes` ends with whether autograd was on."""
    forward = cls.forward

    def noting(*given: Any, **options: Any) -> Any:
        # the old form of a function takes its context first
        inputs = given if has_setup else given[1:]
        if not (proxies := _proxies((*inputs, *options.values()))):
            return forward(*given, **options)
        with torch.set_grad_enabled(modes[-1] if modes else True):
            if cls is CheckpointFunction:
                return inputs[0](*inputs[2:])  # checkpointing is left out: (function, preserve_rng_state, *arguments)
            return proxies[0].tracer.create_proxy("call_function", Applied(cls), inputs, options)

    noting.__wrapped__ = forward  # type: ignore[attr-defined]  # whose signature torch asks for
    return noting


def _setting_up(cls: Any) -> Callable[..., Any]:
    """Return the `setup_context` of a function, which has nothing to do for proxies."""
    setup_context = cls.setup_context

    def setting_up(ctx: Any, inputs: Any, output: Any) -> Any:
        return None if _proxies(inputs) else setup_context(ctx, inputs, output)

    return setting_up


def _functions() -> list[Any]:
    """Return all functions that a `forward` may apply: those inside torch serve its own modules, which are leaves."""
    own = [cls for cls in _subclasses(Function) if not cls.__module__.startswith("torch.")]
    return [CheckpointFunction, *own]


def _subclasses(cls: Any) -> set[Any]:
    return {found for child in cls.__subclasses__() for found in (child, *_subclasses(child))}


def _proxies(values: Iterable[Any]) -> list[fx.Proxy]:
    return [value for value in values if isinstance(value, fx.Proxy)]


def note_switch(node: fx.Node) -> None:
    """Note in the `meta` of a node, in place, that autograd is off where it is made, if it is."""
    if node.op.startswith("call") and not torch.is_grad_enabled():
        node.meta[_WITHOUT] = (True, True)


def pair_switches(evaluated: fx.Node, trained: fx.Node) -> None:
    """Note on a node of evaluation, in place, whether autograd is off in its pair of training."""
    off = (_WITHOUT in evaluated.meta, _WITHOUT in trained.meta)
    if any(off):
        evaluated.meta[_WITHOUT] = off


def switched(node: fx.Node, *, training: bool) -> AbstractContextManager[Any]:
    """Return a context in which a node computes as it did in the network: with autograd, or without."""
    off = node.meta.get(_WITHOUT, (False, False))[training]
    return torch.no_grad() if off else nullcontext()


def with_switches(graph: fx.Graph) -> fx.Graph:
    """Return the graph to be run by code, which knows no `meta`: nodes without autograd switch it off themselves."""
    if not any(_WITHOUT in node.meta for node in graph.nodes):
        return graph
    copied: dict[fx.Node, fx.Node] = {}
    made = fx.Graph()
    for node in graph.nodes:
        if _WITHOUT not in node.meta:
            copied[node] = made.node_copy(node, copied.__getitem__)
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), copied.__getitem__)
        function: Any = operator.call
        if node.op == "call_module":
            # a module or method becomes an argument of `operator.call`, so that one class serves all kinds of nodes
            args = (made.get_attr(str(node.target)), *args)
        elif node.op == "call_method":
            args = (made.call_function(getattr, (args[0], node.target)), *args[1:])
        else:
            function = node.target
        copied[node] = made.call_function(Switched(function), (_enabled(made, node), *args), kwargs)
    return made


def _enabled(graph: fx.Graph, node: fx.Node) -> Any:
    in_evaluation, in_training = (not off for off in node.meta[_WITHOUT])
    if in_evaluation == in_training:
        return in_evaluation
    return graph.call_function(operator.getitem, ((in_evaluation, in_training), graph.get_attr("training")))
