"""Editing: the methods of `ModelHandler` that change what network it stands for, never the user's module.

Every edit makes a new network beside the old one, checks it, and only then takes its place; the old state is kept for
`undo`. Graphs are cut and joined in `surgery`, learning is switched off in `freezing`.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from model_handler.additions import (
    Modules,
    is_lazy_module,
    materialised,
    named_modules,
    pairs_of,
    refuse_familiar,
    refuse_other_device,
)
from model_handler.backends import HookBackend, TracedBackend
from model_handler.engine import Engine
from model_handler.errors import ModelError, UntraceableModelError
from model_handler.freezing import Freezing, Selection, apply_freezing, select_modules, select_up_to
from model_handler.naming import split_index
from model_handler.randomizing import Initializer, randomized
from model_handler.surgery import Edited, add_layer_top, drop_layer_top, refuse_several_outputs, truncate
from model_handler.tracing import Trace
from model_handler.types import is_of_type, known_types

__all__ = ["Editing"]

_Types = str | type[nn.Module] | Sequence[str | type[nn.Module]]


@dataclass(frozen=True, eq=False)
class _State:
    """All that an edit replaces, and the edit that led here."""

    engine: Engine
    shapes: dict[str, tuple[int, ...]]
    freezing: Freezing
    added: tuple[nn.Module, ...]
    edit: str


class Editing:
    """Edits of a network, each one undone by `undo`. An edit that raises leaves everything as it was."""

    _engine: Engine
    _shapes: dict[str, tuple[int, ...]]

    @property
    def edits(self) -> tuple[str, ...]:
        """The edits so far, oldest first, as they would be written."""
        return tuple(state.edit for state in self._states[1:])

    def undo(self) -> Self:
        """Take the last edit back. Raises ModelError if there is none."""
        if len(self._states) == 1:
            raise ModelError("there is no edit to undo")
        self._states.pop()
        self._engine, self._shapes = self._states[-1].engine, self._states[-1].shapes
        return self

    def truncate(self, at: str) -> Self:
        """End the network at a layer, or at the last output of a container such as "layer3".

        What the network computed in training mode only (the auxiliary heads of Inception) is gone: the graph that is
        edited is that of evaluation, in which layers such as dropout keep both their modes. Raises UnknownLayerError,
        and ModelError for a module inside another layer.
        """
        network, traced = self._graph("truncate")
        self._engine.refuse_unknown([at])
        return self._adopt(f"truncate(at={at!r})", truncate(network, traced, at))

    def drop_layer_top(self, n: int = 1) -> Self:
        """Take the last `n` of `layer_names` off the network; as `truncate`, what only training computed goes too.

        Raises ModelError if `n` is not in 1 to the number of layers less one or the network has several outputs, and
        AmbiguousLayerError, naming the branches, where the drop would cut through a join.
        """
        network, traced = self._graph("drop_layer_top")
        return self._adopt(f"drop_layer_top({n})", drop_layer_top(network, traced, n))

    def add_layer_top(self, modules: Modules) -> Self:
        """Run modules on the output of the network, one after the other.

        Parameters
        ----------
        modules : nn.Module, or a sequence of modules and pairs (name, module)
            Names default to the class's. Weights are shared with your modules, as with the network; lazy ones
            (`nn.LazyLinear`) are copied and take their sizes from the example inputs.

        Raises
        ------
        TypeError
            If one of `modules` is neither.
        ModelError
            If a name is taken, a module is given twice or already in the network, it is on another device, the
            network has several outputs, or the modules fail on the output: the layer and both shapes are named. Sizes
            are checked on the example inputs; without these a misfit shows at the first data.
        """
        network, traced = self._graph("add_layer_top")
        refuse_several_outputs(network, traced, "add_layer_top")
        given = pairs_of(modules)
        refuse_familiar([module for _, module in given], (self._states[0].engine.source, *self._states[-1].added))
        named = named_modules(given, network, self._engine.backend.layers)
        refuse_other_device(network, named)
        ready = self._materialised(named)
        label = ", ".join(f"({name!r}, {module!r})" for name, module in ready.items()).replace("\n", "")
        try:
            edited = add_layer_top(network, traced, ready)
            return self._adopt(f"add_layer_top([{label}])", edited, [module for _, module in given])
        except ModelError as error:
            raise ModelError(
                f"{error}\nwhile adding {list(named)}; nothing was changed{self._output_shape()}"
            ) from error

    def freeze(
        self,
        names: str | Sequence[str] | None = None,
        *,
        up_to: str | None = None,
        types: _Types | None = None,
        norm_stats: bool = True,
    ) -> Self:
        """Stop layers from learning in what `get_module` hands out, for good: `.train()` does not undo it.

        Frozen layers have no gradient, no dropout, and with `norm_stats` no change of the running statistics of
        normalisation; the same after `deepcopy`, `torch.save` and `load_state_dict`. Operations that run in the
        network's own `forward`, in no module, follow the mode of the network.

        Parameters
        ----------
        names : str or sequence of str, optional
            Layers, or containers with all inside; whole names, so "fc1" leaves "fc10" alone.
        up_to : str, optional
            All layers in order of execution up to this one, it included.
        types : str, class or sequence of these, optional
            Layers of these types, as in `get_layer_names_matching_type`.
        norm_stats : bool
            Whether the statistics of normalisation layers are fixed too.

        Raises
        ------
        UnknownLayerError
            Listing every unknown name, with the nearest ones; nothing is frozen.
        ModelError
            If not exactly one of `names`, `up_to` and `types` is given, nothing in the network is meant by it, or a
            weight is tied to one that is not frozen with it.
        """
        selection = self._select(names, up_to, types)
        network, freezing = self._engine.network, self._states[-1].freezing
        more = "" if norm_stats else ", norm_stats=False"
        frozen = freezing.frozen(selection, network, norm_stats=norm_stats)
        return self._switch(f"freeze({_choice(names, up_to, types)}{more})", frozen)

    def unfreeze(
        self, names: str | Sequence[str] | None = None, *, up_to: str | None = None, types: _Types | None = None
    ) -> Self:
        """Let layers learn again, those too that were not trainable in the network given. As `freeze`."""
        selection = self._select(names, up_to, types)
        unfrozen = self._states[-1].freezing.unfrozen(selection)
        return self._switch(f"unfreeze({_choice(names, up_to, types)})", unfrozen)

    def randomize(
        self,
        names: str | Sequence[str],
        *,
        initializer: Initializer | None = None,
        random_state: int | None = None,
    ) -> Self:
        """Let layers begin anew: new weights and statistics, those of the network given stay as they are.

        `names` as in `freeze`. Each module with weights resets itself (`reset_parameters`), or `initializer` is called
        with it, as by `nn.Module.apply`. With a `random_state` the same weights come each time, and torch's own
        generator is left alone. Raises UnknownLayerError, and ModelError if nothing named has weights, a module cannot
        reset itself, or a weight is tied to one that is not named.
        """
        selection = self._select(names, None, None)
        self._engine.follow_source()
        before, backend = self._states[-1], self._engine.backend
        network = randomized(self._engine.network, selection, initializer, random_state)
        given = backend.trace if isinstance(backend, TracedBackend) else None
        engine = Engine(network, self._engine.device, backend.input_names, given=given)
        shapes = {} if self._example_inputs is None else engine.shapes(self._example_inputs)
        self._take(_State(engine, shapes, before.freezing, before.added, f"randomize({names!r})"))
        return self

    def get_module(self) -> nn.Module:
        """An ordinary module of its own, with a copy of the weights: no later edit or training touches another's.

        Without structural edits it is a deep copy of the network. Its `state_dict` has the keys of the source for all
        that was kept. An edited network runs the graph of evaluation; in training mode its dropout and normalisation
        train as ever, but what only training computed (auxiliary heads) is gone.
        """
        self._engine.follow_source()
        module = copy.deepcopy(self._engine.source)
        apply_freezing(module, self._states[-1].freezing)
        return module

    def _begin_editing(self, example_inputs: Any) -> None:
        self._example_inputs = example_inputs
        self._states = [_State(self._engine, self._shapes, Freezing(), (), "")]

    def _learns(self, name: str, parameter: Tensor) -> bool:
        return self._states[-1].freezing.learns.get(name, parameter.requires_grad)

    def _graph(self, edit: str) -> tuple[nn.Module, Trace]:
        self._engine.follow_source()
        backend = self._engine.backend
        if isinstance(backend, HookBackend):
            raise UntraceableModelError(
                f"{edit} needs the graph of the network, but {self._engine.untraceable} Here listing, features, "
                "freeze, unfreeze and get_module work"
            )
        return self._engine.network, backend.trace

    def _adopt(self, edit: str, edited: Edited, added: Iterable[nn.Module] = ()) -> Self:
        """Check an edited network by running it, where there are example inputs; then take it."""
        before = self._states[-1]
        engine = Engine(edited.network, self._engine.device, edited.trace.input_names, given=edited.trace)
        shapes = {} if self._example_inputs is None else engine.shapes(self._example_inputs)
        freezing = before.freezing.within(edited.network)
        self._take(_State(engine, shapes, freezing, (*before.added, *added), edit))
        return self

    def _switch(self, edit: str, freezing: Freezing) -> Self:
        before = self._states[-1]
        self._take(_State(before.engine, before.shapes, freezing, before.added, edit))
        return self

    def _take(self, state: _State) -> None:
        self._states.append(state)
        self._engine, self._shapes = state.engine, state.shapes

    def _output_shape(self) -> str:
        last = next(reversed(self._shapes.values()), None)
        return "" if last is None else f". The output that it is added to has the shape {last}"

    def _materialised(self, named: dict[str, nn.Module]) -> dict[str, nn.Module]:
        if not any(map(is_lazy_module, named.values())):
            return named
        if self._example_inputs is None:
            raise ModelError(
                f"the sizes of {[name for name in named if is_lazy_module(named[name])]} are not known before data: "
                "make the handler with example inputs, ModelHandler(network, example_inputs), or give the sizes"
            )
        return materialised(named, self._engine.output(self._example_inputs))

    def _select(self, names: str | Sequence[str] | None, up_to: str | None, types: _Types | None) -> Selection:
        if sum(choice is not None for choice in (names, up_to, types)) != 1:
            raise ModelError("give one of names, up_to and types")
        if up_to is not None:
            return self._select_up_to(up_to)
        layers = self._engine.backend.layers
        if types is not None:
            asked = [types] if isinstance(types, (str, type)) else list(types)
            present = {layer if isinstance(layer, str) else type(layer).__name__ for layer in layers.values()}
            for one in asked:
                known_types(present, one)
            modules = self._engine.backend.modules.items()
            paths = [path for path, module in modules if any(is_of_type(module, one) for one in asked)]
            if not paths:
                raise ModelError(f"the network has no layer of type {types!r}")
            return select_modules(self._engine.network, paths)
        wanted = [names] if isinstance(names, str) else list(names or ())
        if not wanted:
            raise ModelError("names is empty: name at least one layer")
        self._engine.refuse_unknown(wanted)
        paths = [split_index(name)[0].partition("@")[0] for name in wanted]
        if operations := [name for name, path in zip(wanted, paths) if path not in self._engine.backend.modules]:
            raise ModelError(f"{operations} are operations without weights: there is nothing to freeze; name modules")
        return select_modules(self._engine.network, paths)

    def _select_up_to(self, up_to: str) -> Selection:
        self._engine.refuse_unknown([up_to])
        backend, stem = self._engine.backend, split_index(up_to)[0]
        if isinstance(backend, TracedBackend):
            if (last := backend.last_node(up_to)) is None:
                raise ModelError(f"{up_to!r} is inside another layer or does not run, so nothing is before it")
            return select_up_to(self._engine.network, backend.trace, last)
        if self._example_inputs is None:
            raise ModelError("the order of layers is not known without a graph: make the handler with example inputs")
        order, path = list(backend.layers), stem.partition("@")[0]
        places = [n for n, name in enumerate(order) if name == stem or name.startswith(f"{path}.")]
        if not places:
            raise ModelError(f"{up_to!r} is inside another layer or did not run, so nothing is before it")
        return select_modules(self._engine.network, [name.partition("@")[0] for name in order[: places[-1] + 1]])


def _choice(names: Any, up_to: str | None, types: Any) -> str:
    if up_to is not None:
        return f"up_to={up_to!r}"
    return f"types={types!r}" if types is not None else repr(names)
