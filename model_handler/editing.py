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
from model_handler.engine import NETWORK_LOCK, Engine
from model_handler.errors import ModelError, UntraceableModelError, nearest
from model_handler.freezing import Freezing, apply_freezing
from model_handler.randomizing import Initializer, randomized
from model_handler.selecting import Types, select
from model_handler.surgery import (
    Edited,
    add_layer_top,
    drop_layer_top,
    insert,
    refuse_several_outputs,
    replace_layer,
    truncate,
)
from model_handler.tracing import Trace

__all__ = ["Editing"]


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
        given, named = self._checked(modules)
        ready = self._materialised(named)
        try:
            with NETWORK_LOCK:
                edited = add_layer_top(network, traced, ready)
            return self._adopt(f"add_layer_top([{_listed(ready)}])", edited, given)
        except ModelError as error:
            raise ModelError(
                f"{error}\nwhile adding {list(named)}; nothing was changed{self._output_shape()}"
            ) from error

    def add_layer_bottom(self, modules: Modules) -> Self:
        """Run modules on the input of the network, which then is theirs; as `insert_after`.

        Raises ModelError for a network with several inputs: name one in `insert_after`.
        """
        _, traced = self._graph("add_layer_bottom")
        if len(traced.input_names) > 1:
            raise ModelError(f"the network has the inputs {list(traced.input_names)}: choose one by insert_after(name)")
        return self._insert("add_layer_bottom", traced.input_names[0], modules, before=False)

    def insert_after(self, name: str, modules: Modules) -> Self:
        """Run modules on the output of a layer or an input; all that used it uses theirs.

        `modules` as in `add_layer_top`, but lazy ones are refused. Raises UnknownLayerError, and ModelError where
        the layer's output is not used, and as `add_layer_top`.
        """
        return self._insert("insert_after", name, modules, before=False)

    def insert_before(self, name: str, modules: Modules) -> Self:
        """Run modules on what a layer reads; other layers that read it too read it as it was.

        As `insert_after`; ModelError also for a layer that reads several values, which are named.
        """
        return self._insert("insert_before", name, modules, before=True)

    def replace(self, name: str, module: nn.Module, all_calls: bool = False) -> Self:
        """Run another module in the place of a layer; it gets the path of the old one and counts as one layer.

        Of a shared module, `all_calls` replaces every call; one call is named by its suffix ("relu@1"), and the new
        module then has a path of its own. Raises UnknownLayerError, and ModelError for an operation, and as
        `insert_after`.
        """
        network, traced = self._graph("replace")
        self._engine.refuse_unknown([name])
        self._checked(module)
        if is_lazy_module(module):
            raise ModelError(f"{module!r} has no sizes yet, and only add_layer_top finds them: give the sizes")
        edited = replace_layer(network, traced, name, module, all_calls=all_calls)
        more = ", all_calls=True" if all_calls else ""
        label = f"replace({name!r}, {module!r}{more})".replace("\n", "")
        return self._adopt(label, edited, [module])

    def freeze(
        self,
        names: str | Sequence[str] | None = None,
        *,
        up_to: str | None = None,
        types: Types | None = None,
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
        selection = select(self._engine, names, up_to, types, ran=self._example_inputs is not None)
        network, freezing = self._engine.network, self._states[-1].freezing
        more = "" if norm_stats else ", norm_stats=False"
        frozen = freezing.frozen(selection, network, norm_stats=norm_stats)
        return self._switch(f"freeze({_choice(names, up_to, types)}{more})", frozen)

    def unfreeze(
        self, names: str | Sequence[str] | None = None, *, up_to: str | None = None, types: Types | None = None
    ) -> Self:
        """Let layers learn again, those too that were not trainable in the network given. As `freeze`."""
        selection = select(self._engine, names, up_to, types, ran=self._example_inputs is not None)
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
        selection = select(self._engine, names, None, None)
        self._engine.follow_source()
        before, backend = self._states[-1], self._engine.backend
        network = randomized(self._engine.network, selection, initializer, random_state)
        given = backend.trace if isinstance(backend, TracedBackend) else None
        with NETWORK_LOCK:
            engine = Engine(network, self._engine.device, backend.input_names, given=given)
            shapes = {} if self._example_inputs is None else engine.shapes(self._example_inputs)
        self._take(_State(engine, shapes, before.freezing, before.added, f"randomize({names!r})"))
        return self

    def get_module(
        self,
        fixed_layer_parameters: Sequence[str] | None = None,
        random_layer_parameters: Sequence[str] | None = None,
    ) -> nn.Module:
        """An ordinary module of its own, with a copy of the weights: no later edit or training touches another's.

        Without structural edits it is a deep copy of the network. Its `state_dict` has the keys of the source for all
        that was kept. An edited network runs the graph of evaluation; in training mode its dropout and normalisation
        train as ever, but what only training computed (auxiliary heads) is gone.

        `fixed_layer_parameters` and `random_layer_parameters` name parameters, as `get_layer_parameters` does: the
        layers that have them are frozen or randomized in this module alone, whole. Raises ModelError for an unknown
        name, and where `freeze` and `randomize` do.
        """
        before = len(self._states)
        try:
            if random_layer_parameters:
                self.randomize(self._owners(random_layer_parameters))
            if fixed_layer_parameters:
                self.freeze(self._owners(fixed_layer_parameters))
            self._engine.follow_source()
            module = copy.deepcopy(self._engine.source)
            apply_freezing(module, self._states[-1].freezing)
        finally:
            del self._states[before:]
            self._engine, self._shapes = self._states[-1].engine, self._states[-1].shapes
        return module

    def _begin_editing(self, example_inputs: Any) -> None:
        self._example_inputs = example_inputs
        self._states = [_State(self._engine, self._shapes, Freezing(), (), "")]

    def _owners(self, parameters: Sequence[str]) -> list[str]:
        """The modules that hold parameters and buffers, by name."""
        known = self._engine.network.state_dict(keep_vars=True)
        asked = [parameters] if isinstance(parameters, str) else list(parameters)
        if unknown := [name for name in asked if name not in known]:
            raise ModelError(f"there are no parameters {unknown}; nearest: {nearest(unknown[0], known)}")
        if loose := [name for name in asked if "." not in name]:
            raise ModelError(f"{loose} are parameters of the network itself, in no layer")
        return list(dict.fromkeys(name.rpartition(".")[0] for name in asked))

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
        with NETWORK_LOCK:
            engine = Engine(edited.network, self._engine.device, edited.trace.input_names, given=edited.trace)
            shapes = {} if self._example_inputs is None else engine.shapes(self._example_inputs)
        freezing = before.freezing.within(self._engine.network, edited.network)
        self._take(_State(engine, shapes, freezing, (*before.added, *added), edit))
        return self

    def _switch(self, edit: str, freezing: Freezing) -> Self:
        before = self._states[-1]
        self._take(_State(before.engine, before.shapes, freezing, before.added, edit))
        return self

    def _take(self, state: _State) -> None:
        self._states.append(state)
        self._engine, self._shapes = state.engine, state.shapes

    def _checked(self, modules: Modules) -> tuple[list[nn.Module], dict[str, nn.Module]]:
        """Modules that may join the network, as they are and by name."""
        pairs, network = pairs_of(modules), self._engine.network
        given = [module for _, module in pairs]
        refuse_familiar(given, (self._states[0].engine.source, *self._states[-1].added))
        named = named_modules(pairs, network, self._engine.backend.layers)
        refuse_other_device(network, named)
        return given, named

    def _insert(self, edit: str, name: str, modules: Modules, *, before: bool) -> Self:
        network, traced = self._graph(edit)
        if name not in traced.input_names:
            self._engine.refuse_unknown([name])
        given, named = self._checked(modules)
        if lazy := [key for key, module in named.items() if is_lazy_module(module)]:
            raise ModelError(f"{lazy} have no sizes yet, and only add_layer_top finds them: give the sizes")
        where = "" if edit == "add_layer_bottom" else f"{name!r}, "
        try:
            with NETWORK_LOCK:
                edited = insert(network, traced, name, named, before=before)
            return self._adopt(f"{edit}({where}[{_listed(named)}])", edited, given)
        except ModelError as error:
            raise ModelError(f"{error}\nin {edit} of {list(named)} at {name!r}; nothing was changed") from error

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


def _listed(named: dict[str, nn.Module]) -> str:
    return ", ".join(f"({name!r}, {module!r})" for name, module in named.items()).replace("\n", "")


def _choice(names: Any, up_to: str | None, types: Any) -> str:
    if up_to is not None:
        return f"up_to={up_to!r}"
    return f"types={types!r}" if types is not None else repr(names)
