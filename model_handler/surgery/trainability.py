"""Trainability: methods of `ModelHandler` that freeze and reinitialise layers, and hand the network out.

What freezing does is in `freezing`, how layers are reinitialised in `randomizing`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Self

from torch import nn

from model_handler.errors import ModelError, nearest
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.copying import deep_copy
from model_handler.network.replica import keep_gradient_hooks
from model_handler.surgery.edit_history import EditHistory
from model_handler.surgery.freezing import apply_freezing
from model_handler.surgery.randomizing import Initializer, check_randomizing, randomized
from model_handler.surgery.selecting import Types, select

__all__ = ["TrainabilityMixin"]


class TrainabilityMixin(EditHistory):
    """Freezes and reinitialises layers, each undone by `undo`, and hands out the module that comes of all edits."""

    @undisturbed()
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
            If not exactly one of `names`, `up_to` and `types` is given, nothing in the network is meant by it, a weight
            is tied to one that is not frozen with it, or `norm_stats` is neither True nor False.

        Examples
        --------
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))).freeze(up_to="0")
        >>> [name for name, parameter in handler.get_module().named_parameters() if parameter.requires_grad]
        ['1.weight', '1.bias']
        """
        if norm_stats not in (True, False):
            raise ModelError(f"norm_stats must be True or False, got {norm_stats!r}")
        selection = select(self._engine, names, up_to, types, ran=self._state.example_inputs is not None)
        network, freezing = self._engine.network, self._state.freezing
        more = "" if norm_stats else ", norm_stats=False"
        frozen = freezing.frozen(selection, network, norm_stats=norm_stats)
        return self._switch(f"freeze({_selection_as_written(names, up_to, types)}{more})", frozen)

    @undisturbed()
    def unfreeze(
        self, names: str | Sequence[str] | None = None, *, up_to: str | None = None, types: Types | None = None
    ) -> Self:
        """Let layers learn again, those too that were not trainable in the network given. As `freeze`.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
        >>> [layer.trainable for layer in handler.freeze(types="fullyconnected").unfreeze("1").layers]
        [False, True]
        """
        selection = select(self._engine, names, up_to, types, ran=self._state.example_inputs is not None)
        unfrozen = self._state.freezing.unfrozen(selection)
        return self._switch(f"unfreeze({_selection_as_written(names, up_to, types)})", unfrozen)

    @undisturbed()
    def randomize(
        self,
        names: str | Sequence[str],
        *,
        initializer: Initializer | None = None,
        random_state: int | None = None,
    ) -> Self:
        """Reinitialise layers: they get new weights and statistics, those of the network given stay as they are.

        `names` as in `freeze`. Each module with weights resets itself (`reset_parameters`), or `initializer` is called
        with it, as by `nn.Module.apply`. A layer that computes its weight of others (weight norm, spectral norm,
        pruning, parametrizations) is drawn as a plain one, whose weight it then computes; masks stay. With a
        `random_state` the same weights come each time, and torch's own generator is left alone. Raises
        UnknownLayerError, and ModelError if nothing named has weights, a module cannot reset itself or `initializer`
        fails on it, a weight is tied to one that is not named, or `random_state` is no whole number.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        >>> module = ModelHandler(network).randomize("1", random_state=0).get_module()
        >>> [bool((new.weight == old.weight).all()) for new, old in zip(module, network)]
        [True, False]
        """
        check_randomizing(initializer, random_state)
        selection = select(self._engine, names, None, None)
        self._engine.follow_source()
        before, backend = self._states[-1], self._engine.backend
        network = randomized(self._engine.source, selection, initializer, random_state)
        trace = backend.trace if isinstance(backend, TracedBackend) else None
        with NETWORK_LOCK:
            engine = self._engine.edited(network, trace, (self._states[0].engine.source, *before.added))
            shapes = {} if before.example_inputs is None else engine.shapes(before.example_inputs)
        more = "" if initializer is None else f", initializer={getattr(initializer, '__name__', repr(initializer))}"
        more += "" if random_state is None else f", random_state={random_state}"
        edit = f"randomize({names!r}{more})"
        return self._push(replace(before, engine=engine, shapes=shapes, edit=edit, keeps_layers=True))

    @undisturbed()
    def get_module(
        self,
        fixed_layer_parameters: Sequence[str] | None = None,
        random_layer_parameters: Sequence[str] | None = None,
    ) -> nn.Module:
        """Make an ordinary module of its own, with a copy of the weights: no later edit or training touches another's.

        Without structural edits it is a deep copy of the network, in which buffers made by `expand` have a place for
        each number. Its `state_dict` has the keys of the source for all that was kept. What governs gradients stays:
        layers under `torch.no_grad()`, an `autograd.Function`, hooks on the gradient of a weight; but checkpointing
        (`torch.utils.checkpoint`), which only saves memory, goes with an edit of the container that does it. An edited
        network runs the graph of evaluation; in training mode its dropout and normalisation train as ever, and what a
        `train` of the network's own keeps in evaluation stays there, but what only training computed (auxiliary heads)
        is gone, as are arguments of `forward` that the example inputs do not name. Its modules are reached by their
        paths (`get_submodule`): an edited nn.Sequential has no items, and a container of a class of the network's own
        holds modules alone.

        `fixed_layer_parameters` and `random_layer_parameters` name parameters, as `get_layer_parameters` does: the
        layers that have them are frozen or randomized in this module alone, whole. Raises ModelError for an unknown
        name, and where `freeze` and `randomize` do.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> module = ModelHandler(network).drop_layer_top().get_module()
        >>> module(torch.rand(2, 4)).shape, len(network)
        (torch.Size([2, 8]), 2)
        """
        before = len(self._states)
        try:
            if random_layer_parameters:
                self.randomize(self._owners(random_layer_parameters))
            if fixed_layer_parameters:
                self.freeze(self._owners(fixed_layer_parameters))
            with NETWORK_LOCK:
                self._engine.follow_source()
                source = self._engine.source
                module = deep_copy(source)
                for parameter, copied in zip(source.parameters(), module.parameters(), strict=True):
                    keep_gradient_hooks(parameter, copied)
                apply_freezing(module, self._state.freezing)
        finally:
            self._return_to(before)  # what was asked is for the module alone, and undone after an error too
        return module

    def _owners(self, parameters: Sequence[str]) -> list[str]:
        """Return the modules that hold parameters and buffers, by name."""
        known = self._engine.network.state_dict(keep_vars=True)
        if not isinstance(parameters, (str, Iterable)):
            raise TypeError(f"parameters are given by a list of their names, got {parameters!r}")
        asked = [parameters] if isinstance(parameters, str) else list(parameters)
        if unknown := [name for name in asked if name not in known]:
            inside = [name for name in known if name.startswith(f"{unknown[0]}.")]  # of a layer, not a parameter
            near = inside[:3] or nearest(str(unknown[0]), known)
            raise ModelError(f"there are no parameters {unknown}; nearest: {near}")
        if loose := [name for name in asked if "." not in name]:
            raise ModelError(f"{loose} are parameters of the network itself, in no layer")
        owners = (name.rpartition(".")[0] for name in asked)
        return list(dict.fromkeys(owner.partition(".parametrizations.")[0] for owner in owners))  # parts of a layer


def _selection_as_written(names: object, up_to: str | None, types: object) -> str:
    if up_to is not None:
        return f"up_to={up_to!r}"
    return f"types={types!r}" if types is not None else repr(names)
