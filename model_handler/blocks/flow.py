"""Flow: which operation of one forward reads what, and inside which calls of modules, whether or not it can be traced.

The network runs once, on torch's device "meta" where that goes, while hooks tell which modules are open and a
`TorchFunctionMode` sees every operation; tensors are followed by identity. An edited network, whose containers hold
modules and run nothing, runs node by node, and its trace tells to which container a node belongs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from model_handler.extraction.recording import GraphRun
from model_handler.graph.tracing import Trace
from model_handler.network.adapted_layer import without_adapters
from model_handler.network.inputs import NamedInputs, call_network
from model_handler.network.module_hooks import watched
from model_handler.network.outputs import tensors_in

__all__ = [
    "CONTRACTIONS",
    "Call",
    "Flow",
    "Recorder",
    "Step",
    "call_of",
    "channel_axis",
    "matrix_among",
    "name_of",
    "record_flow",
]

Call = tuple[str, int]  # the path of a module, and the number of its call, from 0

CONTRACTIONS = frozenset(
    {"addmm", "baddbmm", "bilinear", "bmm", "einsum", "linear", "matmul", "mm", "multi_head_attention_forward"}
    | {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
)
"""Operations that sum over an axis of the data against a weight, or against other data."""


def name_of(call: Call) -> str:
    """Return how a call is written: the path, with "@1" behind it for the second call."""
    return f"{call[0]}@{call[1]}" if call[1] else call[0]


def call_of(name: str) -> Call:
    """Return the call that is written so."""
    path, _, number = name.partition("@")
    return path, int(number or 0)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on tensors that depend on the inputs.

    `calls` are the modules open while it ran, outermost first; `reads` the numbers of the steps whose results it takes,
    in order; `weights` the parameters that it takes, as they are or as something computed of them alone. `shape` is
    that of the first tensor that it gives.
    """

    name: str
    calls: tuple[Call, ...]
    reads: tuple[int, ...]
    weights: tuple[str, ...]
    shape: tuple[int, ...]
    is_floating: bool


class Flow:
    """The steps of one forward, in order; the first ones are its inputs, the last one reads its outputs."""

    def __init__(self, steps: Sequence[Step], parameters: Mapping[str, tuple[int, ...]]) -> None:
        self.steps = steps
        self.parameters = parameters
        self._behind: list[int] = []  # for each step a number with a bit for it and for each step that it depends on
        for number, step in enumerate(steps):
            bits = 1 << number
            for read in step.reads:
                bits |= self._behind[read]
            self._behind.append(bits)
        self.inside: dict[Call, list[int]] = {}
        for number, step in enumerate(steps):
            for call in step.calls:
                self.inside.setdefault(call, []).append(number)

    def depends(self, number: int, on: int) -> bool:
        """Return whether a step depends on another one, or is it."""
        return bool(self._behind[number] >> on & 1)

    def last_common(self, first: int, second: int) -> int | None:
        """Return the last step on which two steps both depend; None where they have nothing in common."""
        common = self._behind[first] & self._behind[second]
        return common.bit_length() - 1 if common else None

    def between(self, start: int, end: int) -> list[int]:
        """Return the steps on the ways from one step to another, without the first one."""
        return [n for n in range(start + 1, end + 1) if self.depends(n, start) and self.depends(end, n)]

    def inputs_of(self, call: Call) -> list[int]:
        """Return the steps outside a call whose floating results it reads, in the order in which it does."""
        inside = set(self.inside[call])
        read = (read for number in self.inside[call] for read in self.steps[number].reads if read not in inside)
        return list(dict.fromkeys(number for number in read if self.steps[number].is_floating))

    def output_of(self, call: Call) -> int | None:
        """Return the last result of a call that is read behind it."""
        inside = set(self.inside[call])
        read = {
            read
            for number in range(max(inside) + 1, len(self.steps))
            for read in self.steps[number].reads
            if read in inside and self.steps[read].is_floating
        }
        return max(read, default=None)

    def matrices(self, call: Call) -> list[int]:
        """Return the steps inside a call that multiply with a weight of two axes or more."""
        return [number for number in self.inside[call] if self.matrix_of(number)]

    def matrix_of(self, number: int) -> str:
        """Return the weight of two axes or more with which a step multiplies; "" where there is none."""
        step = self.steps[number]
        return matrix_among(step.name, step.weights, self.parameters)


def matrix_among(name: str, weights: Sequence[str], parameters: Mapping[str, tuple[int, ...]]) -> str:
    """Return the first of some weights that an operation multiplies with, of two axes or more; "" if there is none."""
    return next((weight for weight in weights if name in CONTRACTIONS and len(parameters[weight]) > 1), "")


def channel_axis(name: str) -> int:
    """Return the axis of the channels in what an operation with a weight gives."""
    return 1 if name.startswith("conv") else -1


class Recorder(TorchFunctionMode):
    """Notes the steps of one forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.open: list[Call] = []
        named = dict(network.named_parameters())
        self.parameters = {name: tuple(parameter.shape) for name, parameter in named.items()}
        self._number: Any = WeakIdKeyDictionary()  # of the step that gave a tensor
        self._weights: Any = WeakIdKeyDictionary()  # that a tensor is computed of which does not depend on the inputs
        for buffer in network.buffers():
            self._weights[buffer] = ()
        for name, parameter in named.items():
            self._weights[parameter] = (name,)
        modules = network.named_modules(remove_duplicate=False)
        self._lists = {path for path, module in modules if isinstance(module, (nn.ModuleList, nn.ModuleDict))}
        self._n_calls: dict[str, int] = {}
        self._entered: list[tuple[list[Call], Sequence[Tensor]]] = []  # what was open before, and what was given

    def add(self, name: str, read: Sequence[Tensor], given: Sequence[Tensor]) -> None:
        """Note a step that read some tensors and gave others."""
        reads = tuple(self._number[tensor] for tensor in read if tensor in self._number)
        weights = self.weights_among(read)
        if reads or name == "input":
            calls, shape = tuple(self.open), tuple(given[0].shape)
            self.steps.append(Step(name, calls, reads, weights, shape, given[0].is_floating_point()))
            for tensor in given:
                self._number[tensor] = len(self.steps) - 1
        else:
            for tensor in given:
                self._weights[tensor] = weights

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0].strip("_")  # "add" of "__add__", "add_", "add.Tensor"
        read = tensors_in([args, kwargs])
        result = self.computed(name, func, args, kwargs)
        given = tensors_in(result) if name != "setitem" else read[:1]
        if given:
            self.add(name, read, given)
        return result

    def computed(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return what an operation gives."""
        return func(*args, **kwargs)

    def depends_on_inputs(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether one of these tensors depends on the inputs."""
        return any(tensor in self._number for tensor in tensors)

    def weights_among(self, tensors: Sequence[Tensor]) -> tuple[str, ...]:
        """Return the names of the weights among some tensors, and of those that others of them are computed of."""
        found = (name for tensor in tensors if tensor not in self._number for name in self._weights.get(tensor, ()))
        return tuple(dict.fromkeys(found))

    def enter(self, path: str, module: nn.Module, arguments: object) -> None:
        """Open a call of a module, and with it the modules around it whose `forward` was called past their hooks."""
        self._entered.append((self.open, tensors_in(arguments)))
        last = self.open[-1][0] if self.open else ""
        around = [call for call in self._around(path) if not last or call[0].startswith(f"{last}.")]
        self.open = [*self.open, *around, (path, self._n_calls.get(path, 0))]
        self._n_calls[path] = self._n_calls.get(path, 0) + 1

    def leave(self, path: str, output: object) -> None:
        """Close it; what came out of operations that no mode sees depends on what went in."""
        before, read = self._entered.pop()
        known = (self._number, self._weights)
        if unseen := [tensor for tensor in tensors_in(output) if not any(tensor in seen for seen in known)]:
            self.add("module", read, unseen)
        self.open = before

    def stand_in(self, path: str) -> None:
        """Let what follows be in the module at `path`, of which no hook tells."""
        self.open = [*self._around(path), (path, 0)] if path else []

    def _around(self, path: str) -> list[Call]:
        parts = path.split(".")
        paths = (".".join(parts[:end]) for end in range(1, len(parts)))
        return [(around, 0) for around in paths if around not in self._lists]


class _OwnedRun(GraphRun):
    """Runs a graph while the recorder is told in which module each node belongs."""

    def __init__(self, workspace: nn.Module, trace: Trace, recorder: Recorder) -> None:
        super().__init__(workspace, trace.graph)
        self._owners, self._recorder = trace.owners, recorder

    def run_node(self, n: fx.Node) -> Any:
        self._recorder.stand_in(self._owners.get(n, ""))
        return super().run_node(n)


def record_flow(network: nn.Module, inputs: NamedInputs, recorder: Recorder, trace: Trace | None = None) -> Flow:
    """Run `network` once; one that an edit made is run by its `trace`."""
    for part in tensors_in(inputs):
        recorder.add("input", (), [part])
    with without_adapters(network), watched(network, recorder.enter, recorder.leave), recorder:
        if trace is None:
            output = call_network(network, inputs)
        else:
            output = _OwnedRun(network, trace, recorder).run(*inputs.values())
    if recorder.depends_on_inputs(found := tensors_in(output)):
        recorder.add("output", found, found)
    return Flow(recorder.steps, recorder.parameters)
