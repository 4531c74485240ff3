"""Recording: what each module of a network does, by torch.fx, as one graph a module and not one of the whole.

The tracer follows the `forward` of every module that is no leaf of the tables. A module that is called opens a graph of
its own; what it reads of the values around it becomes an input, and what it returns the value of the call.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.graph.trace_errors import function_to_blame, line_to_blame
from model_handler.graph.tracer import OwnThreadTracer
from model_handler.graph.tracing import while_traced
from repurpose.offsite.architecture.arguments import UnsendableError, as_json
from repurpose.offsite.architecture.operations import METHODS, name_of_function

__all__ = ["FIX", "Recording", "record"]

FIX = 'send it with architecture="given": then weights alone travel, and the data owner gives the module'
_PROXY = re.compile(r"Proxy\(\w+\)")
_CONSTANT = "tensor_constant_"
_READS_OF_BUFFERS = (True, False)  # as values that may change; where that cannot be followed, as constants


@dataclass(eq=False)
class Recording:
    """The program of each module, by path and as JSON, and the tensors that a `forward` makes, by path and name."""

    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    constants: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def record(
    network: nn.Module, input_names: Sequence[str], is_leaf: Callable[[nn.Module], bool]
) -> tuple[Recording, Recording]:
    """Record `network` in evaluation and in training, with the named arguments of `forward` as inputs.

    `network` is left as it was. Raises ModelError naming the module, operation or value that has no form as data.
    """
    failed: ModelError | None = None
    modes = {module: module.training for module in network.modules()}
    try:
        for of_buffers in _READS_OF_BUFFERS:
            try:
                constants: dict[str, dict[str, Tensor]] = {}
                return tuple(  # type: ignore[return-value]
                    _recorded(network, input_names, is_leaf, of_buffers, constants, training=training)
                    for training in (False, True)
                )
            except ModelError as error:
                failed = failed or error
    finally:
        for module, mode in modes.items():
            module.training = mode
    assert failed is not None
    raise failed


def _recorded(
    network: nn.Module,
    input_names: Sequence[str],
    is_leaf: Callable[[nn.Module], bool],
    of_buffers: bool,
    constants: dict[str, dict[str, Tensor]],
    *,
    training: bool,
) -> Recording:
    for module in network.modules():
        module.training = training
    functions: dict[Callable[..., Any], ModuleType] = {}
    while True:
        recorder = _Recorder(input_names, is_leaf, functions, of_buffers, Recording(constants=constants))
        try:
            with while_traced(network):
                recorder.trace(network)
            return recorder.recording
        except ModelError:
            raise
        except Exception as error:
            blamed = function_to_blame(error)
            # a function of the tables that cannot be followed is one operation
            if blamed and blamed[0] not in functions and name_of_function(blamed[0]):
                functions[blamed[0]] = blamed[1]
                continue
            where = recorder.failed or "its forward"
            raise ModelError(
                f"{type(network).__name__} cannot be sent as data: {where} cannot be followed: {type(error).__name__}: "
                f"{error}{line_to_blame(error)}; {FIX}"
            ) from error


class _Frame:
    """The call of a module that is being followed: its graph, and what it reads from around it, in order."""

    def __init__(self, path: str, module: nn.Module, graph: fx.Graph) -> None:
        self.path, self.module, self.graph = path, module, graph
        self.inputs: dict[fx.Node, fx.Node] = {}  # each value around the module to what stands for it inside
        self.weights: dict[str, fx.Proxy] = {}
        self._names: dict[int, str] = {}

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the path of a parameter or buffer below this module, None of any other."""
        if not self._names:
            named = [*self.module.named_buffers(remove_duplicate=False)]
            named += self.module.named_parameters(remove_duplicate=False)
            self._names = {id(each): name for name, each in reversed(named)}
        return self._names.get(id(tensor))

    def path_of(self, module: nn.Module) -> str | None:
        """Return the path of a module below this one, None of any other."""
        return next((path for path, each in self.module.named_modules(remove_duplicate=False) if each is module), None)


class _Weight(fx.Proxy):
    """A parameter or buffer in a trace, whose sizes are known, so that a `forward` may ask for them."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, tensor: Tensor) -> None:
        super().__init__(node, tracer)
        self.tensor = tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def size(self, *axis: int) -> Any:
        return self.tensor.size(*axis)

    def dim(self) -> int:
        return self.tensor.dim()

    def numel(self) -> int:
        return self.tensor.numel()

    def __len__(self) -> int:
        return len(self.tensor)


class _Recorder(OwnThreadTracer):
    def __init__(
        self,
        input_names: Sequence[str],
        is_leaf: Callable[[nn.Module], bool],
        functions: Mapping[Callable[..., Any], ModuleType],
        of_buffers: bool,
        recording: Recording,
    ) -> None:
        super().__init__(autowrap_functions=tuple(functions))
        self._autowrap_search.extend(functions.values())
        self.input_names, self.is_leaf, self.of_buffers = input_names, is_leaf, of_buffers
        self.recording = recording
        self.frames: list[_Frame] = []
        self.failed = ""

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Any, list[Any]]:
        self.frames = [_Frame("", self.root, self.graph)]

        def call(root: nn.Module, *values: Any) -> Any:
            returned = root_fn(root, **dict(zip(self.input_names, values, strict=True)))
            self._keep(self.frames[0], returned)
            return None  # the programs are what counts

        return call, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in self.input_names)]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._is_elsewhere():
            return forward(*args, **kwargs)
        frame = self.frames[-1]
        if (path := frame.path_of(m)) is None:
            raise self._refusal(f"calls a {type(m).__name__} that is no module of its own")
        if self.is_leaf(m):
            return self.create_proxy("call_module", path, args, kwargs)
        # of several paths the first one, under which it is sent
        inner = _Frame(self.path_of_module(m), m, fx.Graph())
        with self._inside(inner):
            for node in _nodes_of_proxies((args, kwargs)):
                self._local(node)
            returned = forward(*args, **kwargs)
            self._keep(inner, returned)
        call = self.create_proxy("call_module", path, tuple(map(self.proxy, inner.inputs)), {})
        return _with_parts_of(call, returned)

    @contextmanager
    def _inside(self, frame: _Frame) -> Iterator[None]:
        self.frames.append(frame)
        self.graph = frame.graph
        try:
            yield
        except Exception:
            self.failed = self.failed or f"{frame.path!r}, a {type(frame.module).__name__},"
            raise
        finally:
            self.frames.pop()
            self.graph = self.frames[-1].graph

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Node:
        if self.frames:
            args, kwargs = fx.map_arg((args, kwargs), self._local)
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind.startswith("call") and not torch.is_grad_enabled():
            node.meta["no_grad"] = True
        return node

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and self.frames:
            return self._node_of_tensor(a)
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: object, parameter_proxy_cache: dict[str, Any]) -> Any:
        frame = self.frames[-1] if self.frames else None
        if frame is None or self._is_elsewhere() or not isinstance(attr_val, Tensor):
            return attr_val
        name = frame.name_of(attr_val)
        if name is None or not (self.of_buffers or isinstance(attr_val, nn.Parameter)):
            return attr_val
        if name not in frame.weights:
            node = self.create_node("get_attr", name, (), {})
            frame.weights[name] = _Weight(node, self, attr_val)
        return frame.weights[name]

    def _node_of_tensor(self, tensor: Tensor) -> fx.Node:
        frame = self.frames[-1]
        if name := frame.name_of(tensor):
            return self.create_node("get_attr", name, (), {})
        if isinstance(tensor, nn.Parameter):
            raise self._refusal("reads a weight of another module")
        constants = self.recording.constants.setdefault(frame.path, {})
        name = next((name for name, known in constants.items() if _are_equal(known, tensor)), "")
        if not name:
            name = f"{_CONSTANT}{len(constants)}"
            constants[name] = tensor.detach().clone()
        return self.create_node("get_attr", name, (), {})

    def _local(self, node: fx.Node, depth: int = -1) -> fx.Node:
        """Return what stands for a value in the frame of this depth: itself, or an input, which all between get too."""
        depth %= len(self.frames)
        frame = self.frames[depth]
        if node.graph is frame.graph:
            return node
        if depth == 0:
            raise self._refusal("keeps a value from one call for another")
        outer = self._local(node, depth - 1)
        if outer not in frame.inputs:
            frame.inputs[outer] = frame.graph.placeholder(f"input_{len(frame.inputs)}")
        return frame.inputs[outer]

    def _keep(self, frame: _Frame, returned: Any) -> None:
        """Keep the program of a frame, which is now complete."""
        output = fx.node.map_aggregate(returned, lambda item: self._local(item.node) if _is_proxy(item) else item)
        try:
            program = _program(frame.graph, output)
        except UnsendableError as error:
            raise self._refusal(f"uses {error}") from None
        known = self.recording.programs.setdefault(frame.path, program)
        if known != program:
            raise self._refusal("does one thing in one call and another in the next")

    def _refusal(self, why: str) -> ModelError:
        frame = self.frames[-1]
        where = f"{frame.path!r}, a {type(frame.module).__name__}," if frame.path else "its own forward"
        return ModelError(f"{type(self.root).__name__} cannot be sent as data: {where} {why}; {FIX}")

    def _is_elsewhere(self) -> bool:
        return get_ident() != self._thread


def _program(graph: fx.Graph, output: Any) -> dict[str, Any]:
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    places = {node: place for place, node in enumerate([*inputs, *nodes])}
    return {
        "inputs": len(inputs),
        "steps": [_step(node, places) for node in nodes],
        "output": as_json(output, places),
    }


def _step(node: fx.Node, places: Mapping[fx.Node, int]) -> list[Any]:
    args = [as_json(_said(arg), places) for arg in node.args]
    kwargs = {name: as_json(value, places) for name, value in node.kwargs.items()}
    kind, target = {
        "call_module": lambda: ("module", str(node.target)),
        "get_attr": lambda: ("weight", str(node.target)),
        "call_method": lambda: ("method", _method(str(node.target))),
        "call_function": lambda: ("function", _function(node.target)),
    }[node.op]()
    return [kind, target, args, kwargs, *(["no_grad"] if "no_grad" in node.meta else [])]


def _said(value: Any) -> Any:
    """Return text, as that of an assertion, with no name of a value of torch.fx in it."""
    return _PROXY.sub("another", value) if isinstance(value, str) else value


def _method(name: str) -> str:
    if name not in METHODS:
        raise UnsendableError(f"the method {name!r}, which is not in the table of those that are sent")
    return name


def _function(function: Any) -> str:
    if (name := name_of_function(function)) is None:
        said = f"{getattr(function, '__module__', None)}.{getattr(function, '__name__', function)}"
        raise UnsendableError(f"the function {said}, which is not in the table of those that are sent")
    return name


def _with_parts_of(call: Any, returned: Any) -> Any:
    """Return a value like the one that a module returned, whose tensors are parts of the value of its call."""
    if _is_proxy(returned):
        return call
    if type(returned) in (tuple, list):
        return type(returned)(_with_parts_of(call[place], item) for place, item in enumerate(returned))
    if isinstance(returned, dict):
        return {name: _with_parts_of(call[name], item) for name, item in returned.items()}
    return returned


def _nodes_of_proxies(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_aggregate(value, lambda item: found.append(item.node) if _is_proxy(item) else None)
    return found


def _is_proxy(value: Any) -> TypeGuard[fx.Proxy]:
    return isinstance(value, fx.Proxy)


def _are_equal(tensor: Tensor, other: Tensor) -> bool:
    return tensor.dtype == other.dtype and tensor.shape == other.shape and torch.equal(tensor, other)
