"""Edit history: what network a handler stands for now, how it came to be, and the way back.

Every edit makes a new state beside the old ones, and checks it before it takes its place: an edit that raises leaves
everything as it was.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor, nn

from model_handler.errors import ModelError, UntraceableModelError
from model_handler.extraction.backends import HookBackend
from model_handler.extraction.engine import NETWORK_LOCK, Engine
from model_handler.graph.modes import UNLIKE_TRAINING
from model_handler.graph.tracing import Trace
from model_handler.surgery.draft import Edited
from model_handler.surgery.freezing import Freezing

__all__ = ["EditHistory", "State"]


@dataclass(frozen=True, eq=False)
class State:
    """All that an edit replaces, and the edit that led here, as it would be written.

    `renames` give the paths of the first state their names in this one; `keeps_layers` says that the edit gave layers
    other weights or adapters and left the layers themselves as they were.
    """

    engine: Engine
    shapes: dict[str, tuple[int, ...]]
    example_inputs: Any = None
    freezing: Freezing = field(default_factory=Freezing)
    added: tuple[nn.Module, ...] = ()
    renames: tuple[Callable[[str], str], ...] = ()
    edit: str = ""
    keeps_layers: bool = False


class EditHistory:
    """The states of a handler, the first one the network that was given."""

    _engine: Engine
    _shapes: dict[str, tuple[int, ...]]

    @property
    def edits(self) -> tuple[str, ...]:
        """The edits so far, oldest first, as they would be written.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))).drop_layer_top().freeze("0").edits
        ('drop_layer_top(1)', "freeze('0')")
        """
        return tuple(state.edit for state in self._states[1:])

    def undo(self) -> Self:
        """Take the last edit back. Raises ModelError if there is none.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))).drop_layer_top()
        >>> handler.undo().layer_names
        ['0', '1']
        """
        if len(self._states) == 1:
            raise ModelError("there is no edit to undo")
        self._return_to(len(self._states) - 1)
        return self

    @property
    def _state(self) -> State:
        return self._states[-1]

    def _begin_editing(self, example_inputs: object) -> None:
        backend = self._engine.backend
        set_by_forward = {} if isinstance(backend, HookBackend) else backend.trace.learns
        self._states = [State(self._engine, self._shapes, example_inputs, Freezing(set_by_forward))]

    def _push(self, state: State) -> Self:
        if state.engine is not self._engine:
            self._engine.release()  # a copy on a GPU, or folded weights, for each edit would add up
        self._states.append(state)
        self._engine, self._shapes = state.engine, state.shapes
        return self

    def _return_to(self, n_states: int) -> None:
        del self._states[n_states:]
        self._engine, self._shapes = self._state.engine, self._state.shapes

    def _name_now(self, name: str) -> str:
        """Return the name of a layer or module of the network given, after all edits that renamed."""
        for renamed in self._state.renames:
            name = renamed(name)
        return name

    def _learns(self, name: str, parameter: Tensor) -> bool:
        return self._state.freezing.is_trainable(name, parameter)

    def _traced_network(self, use: str, *, edits: bool = True) -> tuple[nn.Module, Trace]:
        """Return the network and its trace, up to date; for edits it holds its gradients, which takes a backward pass.

        Raises UntraceableModelError where there is none.
        """
        if edits:
            self._prepare()
        else:
            self._engine.follow_source()
        backend = self._engine.backend
        if isinstance(backend, HookBackend):
            raise UntraceableModelError(
                f"{use} needs the graph of the network, but {self._engine.untraceable.rstrip('. ')}. Without a graph "
                "these work: listing, features, truncate, add_layer_top, add_adapters, freeze, unfreeze, randomize, "
                "get_module"
            )
        return self._engine.network, backend.trace

    def _prepare(self) -> None:
        """Bring the network up to date before an edit, and see that its graph, if it has one, holds its gradients."""
        engine, backend = self._engine, self._engine.backend
        engine.follow_source()
        engine.hold_gradients()
        if engine.backend is not backend and self._state.example_inputs is not None:
            self._shapes = engine.shapes(self._state.example_inputs)
            self._states[-1] = replace(self._state, shapes=self._shapes)

    def _adopt(
        self,
        edit: str,
        edited: Edited,
        added: Iterable[nn.Module] = (),
        *,
        example_inputs: object = None,
        renamed: Callable[[str], str] | None = None,
    ) -> Self:
        """Check an edited network by running it, where there are example inputs; then take it.

        `example_inputs` replace the old ones where the edit changed the input.
        """
        _refuse_unlike_training(edit, edited)
        before = self._state
        examples = before.example_inputs if example_inputs is None else example_inputs
        # weights follow the network that was given and all modules added, not the copies between, which nobody trains
        origins = (self._states[0].engine.source, *before.added, *added)
        # run before it is taken: an edit that fails on the example inputs changes nothing
        with NETWORK_LOCK:
            engine = before.engine.edited(edited.network, edited.trace, origins)
            shapes = {} if examples is None else engine.shapes(examples)
        if renamed:
            freezing = before.freezing.renamed(renamed)
        else:
            freezing = before.freezing.within(self._engine.network, edited.network, edited.renewed)
        renames = (*before.renames, renamed) if renamed else before.renames
        return self._push(State(engine, shapes, examples, freezing, (*before.added, *added), renames, edit))

    def _switch(self, edit: str, freezing: Freezing) -> Self:
        return self._push(replace(self._state, freezing=freezing, edit=edit, keeps_layers=False))


def _refuse_unlike_training(edit: str, edited: Edited) -> None:
    """Refuse to bake in what the network's own forward does in evaluation alone."""
    if edited.trace is None:
        return
    if unlike := next((node for node in edited.trace.graph.nodes if UNLIKE_TRAINING in node.meta), None):
        name = edited.trace.names.get(unlike, unlike.name)
        raise UntraceableModelError(
            f"{edit} would make the network compute {name!r} in training as it does in evaluation, but its own forward "
            "does something else there. Truncate before this layer, or move the part that looks at self.training into "
            "a module of its own"
        )
