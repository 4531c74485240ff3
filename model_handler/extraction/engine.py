"""The engine computes features of one network: it keeps its trace, its copy on the device and its programs.

It places inputs on the device, checks the traced graph against the network on the first data it meets,
and falls back to hooks where they differ. What users call is in `handler`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from model_handler.data.batch import count_rows
from model_handler.errors import ModelError, UntraceableModelError
from model_handler.extraction.backends import DryRun, HookBackend, TracedBackend
from model_handler.extraction.extracting import chunks, refuse_other_rows
from model_handler.extraction.failures import explained
from model_handler.extraction.gradient_check import hooked_containers, hooks_to_blame, same_gradients
from model_handler.extraction.input_mistakes import refuse_one_image
from model_handler.extraction.pooling import Wanted
from model_handler.extraction.ready_network import ReadyNetwork
from model_handler.extraction.shape_propagation import counting, propagate
from model_handler.extraction.single_rows import computed_rows, normalises_over_rows, warn_of_mixing
from model_handler.extraction.unknown_layers import unknown_layers
from model_handler.graph.nodes import is_constant
from model_handler.graph.tracing import Trace, trace
from model_handler.network.closeness import tensors_are_close
from model_handler.network.inputs import (
    NamedInputs,
    call_network,
    default_input_names,
    first_row,
    first_rows,
    is_on_meta,
    named_inputs,
    own_inputs,
    place,
    with_numbers,
)
from model_handler.network.outputs import tensors_in
from model_handler.network.precision import computing_in
from model_handler.network.replica import Workspace, share_weights
from model_handler.network.tensors import refuse_without_weights
from model_handler.network.weight_links import StateIdentity, WeightLinks

__all__ = ["NETWORK_LOCK", "Engine"]

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

# Held while a network is traced or run: tracing replaces `nn.Module.__call__` for the whole process, and searches over
# parameters may fit several clones, which share one network, in threads.
NETWORK_LOCK = RLock()


class Engine:
    """Computes features of `source`, which it shares and never changes.

    `backend` lists its layers; `workspace` is the copy that runs, made when it is needed; `untraceable` says why there
    is no graph, where there is none. An edited network is made by `edited`: traced again, its operations would lose
    their paths. Raises ModelError for weights without a shape, and for an input name that `forward` does not have.
    """

    backend: TracedBackend | HookBackend
    _holds_gradients: bool

    def __init__(
        self,
        source: nn.Module,
        device: torch.device,
        input_names: Sequence[str] | None,
        *,
        precision: str = "float32",
        given: Trace | None = None,
        untraceable: str = "",
        origins: Iterable[nn.Module] = (),
        constants: Mapping[str, Tensor | None] | None = None,
    ) -> None:
        refuse_without_weights(source)
        self.device, self.precision = device, precision
        self.untraceable, self._stays_hooked = untraceable, bool(untraceable)
        self._given = given
        self.verified = False
        self._few: NamedInputs | None = None  # rows that were met
        self._closed: dict[str, str] = {}  # containers that are to be one layer, each with the reason
        self._source, self._identity = source, StateIdentity(source)
        self._weight_links = WeightLinks(source, origins)
        self._n_rows: int | None = None
        self._constants = constants or {}
        self._network = share_weights(self._source, self._constants)
        self._set_backend(tuple(input_names) if input_names else default_input_names(self._network))

    def edited(
        self, network: nn.Module, trace: Trace | None, origins: Iterable[nn.Module], *, retrace: bool = False
    ) -> "Engine":
        """Make an engine for an edited copy of this network, whose tensors are those of `origins`; without a trace it
        is run as this one is, or with `retrace` traced anew.
        """
        names = trace.input_names if trace else self.backend.input_names
        reason = "" if trace or retrace else self.untraceable
        # of a network that is run by its own forward too, only the graph knows them
        constants = {name: held for name, held in self._network._buffers.items() if trace and is_constant(name)}
        options: dict[str, Any] = {"precision": self.precision, "given": trace, "untraceable": reason}
        return Engine(network, self.device, names, origins=origins, constants=constants, **options)

    def follow_source(self, n_rows: int | None = None) -> None:
        """Bring weights and buffers up to date; start over where the source holds others, or other modules.

        `n_rows` is how many rows are then computed, where it is known: for a few, folding is not worth its cost.
        Settings and hooks of the modules are those of the time when the engine was made.
        """
        with NETWORK_LOCK:
            self._n_rows = n_rows
            self._weight_links.update()
            identity = StateIdentity(self._source)
            if not identity.is_same_as(self._identity):
                self._identity = identity
                self._network = share_weights(self._source, self._constants)
                self._closed = {}
                self._set_backend(self.backend.input_names)
            for module, original in zip(self._network.modules(), self._source.modules()):
                module.training = original.training
            self._ready.refresh()

    def hold_gradients(self) -> None:
        """Make sure, before the first edit or training, that the graph has the gradients of the network too.

        One backward pass of both is compared on rows that were met, where any were. Containers whose hooks change it
        become one layer each; where that does not help, hooks run the network.
        """
        with NETWORK_LOCK:
            if self._holds_gradients or not isinstance(self.backend, TracedBackend):
                return
            if hooked := hooked_containers(self._network):
                self._close_containers(hooked)
            if not self._has_gradients():
                self._close_containers(hooked_containers(self._network, forward=True))
                if not self._has_gradients():
                    self._use_hooks("has other gradients than it")
            self._holds_gradients = True

    def release(self) -> None:
        """Let go of the weights that only running needs; what is asked next makes them again."""
        with NETWORK_LOCK:
            self._ready = ReadyNetwork(self._network, self.device, self.precision)

    @property
    def workspace(self) -> Workspace:
        """The copy of the network that runs."""
        return self._ready.workspace

    def prepare_inputs(self, inputs: object, *, as_it_came: bool = False) -> NamedInputs:
        """Return inputs by name, on the device; the first ones decide which inputs to trace for, and verify the graph.

        Images are laid out for speed, unless they are to be `as_it_came`.
        """
        named = self._ordered_inputs(inputs)
        if not self.verified:
            self._verify({name: self._place(part) for name, part in named.items()})
        return {name: self._place(part, as_it_came=as_it_came) for name, part in named.items()}

    def rows(self, inputs: object, n_rows: int, wanted: Sequence[Wanted]) -> Iterator[list[Tensor]]:
        """Yield the rows of one batch in blocks, each block an array (n_rows_of_block, n_features) for each `wanted`.

        A layer that is wanted in several poolings is computed once.
        """
        named = self.prepare_inputs(inputs)
        in_batch = sum(part.numel() for part in named.values() if isinstance(part, Tensor))
        n_elements = in_batch * max(1.0, (self._n_rows or float("inf")) / max(n_rows, 1))
        self.refuse_unknown(
            list(dict.fromkeys(name for name, _ in wanted))
        )  # again: the first data may have changed how the network is run
        run = self._ready.path_to_layers(self.backend, wanted, named).run

        def compute(piece: NamedInputs) -> list[Tensor]:
            with computing_in(self.precision, self.device):
                return run(piece, piece.get("attention_mask"), n_elements)

        for piece, n_piece in chunks(named, n_rows) if self._in_chunks else [(named, n_rows)]:
            block = computed_rows(compute, piece, n_piece)
            for (name, _), array in zip(wanted, block, strict=True):
                refuse_other_rows(name, array, n_piece)
            yield block

    def values(self, inputs: object, nodes: tuple[fx.Node, ...], *, folded: bool) -> list[Tensor]:
        """Compute what nodes of the trace hold for one batch right after they are run, whole and in their own dtypes.

        What is not `folded` is computed as the network would: the batch in one, in the memory format it came in.
        """
        named = self.prepare_inputs(inputs, as_it_came=not folded)
        n_rows = count_rows(dict(named))
        run = self._ready.path_to_nodes(self._traced(), nodes, folded=folded).run

        def compute(piece: NamedInputs) -> list[Tensor]:
            with computing_in(self.precision, self.device):
                return run(piece, None, float("inf"))

        pieces = chunks(named, n_rows) if self._in_chunks and folded else [(named, n_rows)]
        blocks = [computed_rows(compute, piece, n_piece) for piece, n_piece in pieces]
        return blocks[0] if len(blocks) == 1 else [torch.cat(parts) for parts in zip(*blocks, strict=True)]

    def shapes(self, example_inputs: object) -> dict[str, tuple[int, ...]]:
        """Return the output shape of each layer and container that returns one tensor.

        Inputs on the device `meta` are propagated, which computes nothing and verifies nothing. Raises ModelError
        naming the layer that fails.
        """
        if is_on_meta(example_inputs):
            try:
                return self._propagated(example_inputs).shapes
            except ModelError as error:
                if "meta" not in str(error):  # as torch's refusals to compute are, where not shapes alone count
                    raise
                raise ModelError(f"{error}\nThis needs example inputs that have numbers") from error
        with NETWORK_LOCK, torch.no_grad():
            named = self.prepare_inputs(example_inputs)
            with explained(self.workspace.module, own_inputs(named)):
                return self.backend.dry_run(self.workspace.module, own_inputs(named)).shapes

    def profile(self, inputs: object) -> DryRun:
        """Return shapes and FLOPs for the first row of `inputs` alone; see `observe`."""
        backend = self.backend
        if isinstance(backend, HookBackend):  # it learns from each run; looking is to change nothing
            backend = HookBackend(self._network, backend.input_names)
        return self.observe(inputs, backend.dry_run)

    def observe(self, inputs: object, run: Callable[[nn.Module, NamedInputs, Callable[[], int]], T]) -> T:
        """Call `run` on a copy of the network, the first row of `inputs` and a count of FLOPs.

        It is propagated on the device `meta`, or run where that fails. Raises ModelError naming the layer that fails.
        """
        row = first_row(self._ordered_inputs(inputs))
        try:
            return propagate(self._network, run, row, self._dtype)
        except ModelError:
            if is_on_meta(row):
                raise
        with counting() as count:
            return self._run_row(row, lambda module, placed: run(module, placed, count))

    def observe_numbers(self, inputs: object, run: Callable[[nn.Module, NamedInputs], T]) -> T:
        """Call `run` on a copy of the network and the first row of `inputs`; parts without numbers get some."""
        row = first_row(self._ordered_inputs(inputs))
        return self._run_row({name: with_numbers(part) for name, part in row.items()}, run)

    def _run_row(self, row: NamedInputs, run: Callable[[nn.Module, NamedInputs], T]) -> T:
        placed = own_inputs({name: self._place(part) for name, part in row.items()})
        try:
            with explained(self.workspace.module, placed):
                return run(self.workspace.module, placed)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{type(self._network).__name__} fails on these inputs: {error}") from error

    @property
    def source(self) -> nn.Module:
        """The network whose weights are used, which is not to be changed."""
        return self._source

    @property
    def network(self) -> nn.Module:
        """The copy of the source's structure, with its weights, that was traced."""
        return self._network

    def output(self, example_inputs: object) -> Any:
        """Return what the network returns in evaluation mode; on `meta` for inputs that are."""
        with NETWORK_LOCK, torch.no_grad():
            if is_on_meta(example_inputs):
                return self._propagated(example_inputs).output
            named = self.prepare_inputs(example_inputs)
            return call_network(self.workspace.module, own_inputs(named))

    def only_input(self, example_inputs: object) -> Any:
        """Return the one input that a network takes, floating numbers in its dtype."""
        (part,) = named_inputs(self._network, example_inputs, self.backend.input_names).values()
        return part.to(self._dtype) if isinstance(part, Tensor) and part.is_floating_point() else part

    def value(self, example_inputs: object, value: fx.Node, reader: fx.Node) -> Any:
        """Return what a node of the trace holds when another one is about to read it, as `output`."""
        backend = self._traced()
        with NETWORK_LOCK, torch.no_grad():
            if is_on_meta(example_inputs):
                return propagate(
                    self._network,
                    lambda workspace, given, _: backend.value_before(workspace, given, value, reader),
                    self._ordered_inputs(example_inputs),
                    self._dtype,
                )
            named = self.prepare_inputs(example_inputs)
            return backend.value_before(self.workspace.module, own_inputs(named), value, reader)

    def refuse_unknown(self, names: Sequence[str], *, more: Iterable[str] = ()) -> None:
        """Raise UnknownLayerError listing every name that is no layer, with the nearest, of `more` too."""
        if unknown := [name for name in names if not isinstance(name, str) or not self.backend.knows(name)]:
            known = [*self.backend.layers, *(path for path in self.backend.modules if path), *more]
            raise unknown_layers(self._network, unknown, known)

    def _set_backend(self, input_names: tuple[str, ...]) -> None:
        self._holds_gradients = self._given is not None  # what an edit made comes of a graph that does
        if self._given and set(input_names) != set(self._given.input_names):
            raise ModelError(f"the edited network takes the inputs {list(self._given.input_names)}, got {input_names}")
        try:
            if self._stays_hooked:
                raise UntraceableModelError(self.untraceable)
            with torch.inference_mode(False):
                self.backend = TracedBackend(
                    self._network, self._given or trace(self._network, input_names, self._closed)
                )
        except UntraceableModelError as error:
            _LOG.info("%s", error)
            self.untraceable = str(error)
            self.backend = HookBackend(self._network, input_names)
        self.release()  # after the trace, which may have added constants
        self._channels_last = any(isinstance(module, nn.Conv2d) for module in self._network.modules())
        self._in_chunks = self.device.type == "cpu" and not normalises_over_rows(self._network)
        self.verified = isinstance(self.backend, HookBackend) and not self._channels_last

    def _ordered_inputs(self, inputs: object) -> NamedInputs:
        """Return inputs by name, in the order of the trace, which is made again where it was made for other ones."""
        named = named_inputs(self._network, inputs, self.backend.input_names)
        if set(named) != set(self.backend.input_names):
            self._set_backend(tuple(named))
        ordered = {name: named[name] for name in self.backend.input_names}
        if isinstance(self.backend, TracedBackend):
            refuse_one_image(self.backend.trace.graph, self.backend.modules, ordered)
        return ordered

    def _propagated(self, inputs: object) -> DryRun:
        named = self._ordered_inputs(inputs)
        return propagate(self._network, self.backend.dry_run, named, self._dtype)

    def _place(self, part: object, *, as_it_came: bool = False) -> Any:
        if not isinstance(part, Tensor):
            return part
        channels_last = self.device.type == "cpu" and self._channels_last and not as_it_came
        return place(part, self.device, self._dtype, channels_last=channels_last)

    def _verify(self, named: NamedInputs) -> None:
        """Compare the traced graph with the network on up to two rows; where they differ, hooks take over."""
        self._few = few = first_rows(named)
        try:
            wanted = self._outputs(few)
        except Exception:
            if self._channels_last:  # `view` fails on maps with their channels innermost
                self._channels_last = False
                self._verify({name: p.contiguous() if isinstance(p, Tensor) else p for name, p in named.items()})
                self._channels_last = not self.verified
            return  # the program will fail on it too, and name the layer
        self.verified = True
        warn_of_mixing(type(self._network).__name__, self._outputs, first_row(few), wanted)
        if isinstance(self.backend, HookBackend):
            return
        try:
            with torch.no_grad():
                got = tensors_in(self.backend.dry_run(self.workspace.module, own_inputs(few)).output)
        except Exception:
            got = []
        if not tensors_are_close(got, wanted):
            self._use_hooks("computes something else than it")

    def _has_gradients(self) -> bool:
        """Tell whether the graph, if any, has the gradients of the network, as far as the rows met can show it."""
        if self._few is None or not isinstance(self.backend, TracedBackend):
            return True
        return same_gradients(self._network, self.backend.trace.graph, self._few, self.device)

    def _close_containers(self, containers: dict[str, str]) -> None:
        """Trace again, with these containers as one layer each."""
        self._closed = containers
        self._network = share_weights(self._source)  # without the constants of the first trace
        self._set_backend(self.backend.input_names)

    def _use_hooks(self, difference: str) -> None:
        """Let hooks take the place of the graph."""
        name = type(self._network).__name__
        _LOG.warning("the traced graph of %s differs from the network; using hooks", name)
        self.untraceable = f"the traced graph of {name} {difference}{hooks_to_blame(self._network) or '.'}"
        self._stays_hooked = True
        self.backend = HookBackend(self._network, self.backend.input_names)
        self._ready.forget_programs()

    def _outputs(self, inputs: NamedInputs) -> list[Tensor]:
        with torch.no_grad():
            return tensors_in(call_network(self.workspace.module, own_inputs(inputs)))

    def _traced(self) -> TracedBackend:
        if not isinstance(self.backend, TracedBackend):
            raise UntraceableModelError(self.untraceable)
        return self.backend

    @property
    def _dtype(self) -> torch.dtype:
        floating = (p.dtype for p in self._network.parameters() if p.is_floating_point())
        return next(floating, torch.get_default_dtype())
