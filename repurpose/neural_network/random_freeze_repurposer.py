"""`NeuralNetworkRandomFreezeRepurposer`: some layers of a network fixed, some begun anew, and a new head."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.errors import ModelError
from model_handler.extraction.pooling import Pooling, check_pooling
from repurpose.neural_network.heads import add_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer, class_count_mistakes
from repurpose.parameters import is_whole

__all__ = ["NeuralNetworkRandomFreezeRepurposer"]


class NeuralNetworkRandomFreezeRepurposer(NeuralNetworkRepurposer):
    """Drops the last layers of a network, puts a linear layer on top, fixes some layers and lets others begin anew.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    target_class_count : int, optional
        As in `NeuralNetworkFineTuneRepurposer`.
    fixed_layers : sequence of str, default=()
        Layers or containers that do not learn: no gradient, no dropout, no change of normalisation's statistics.
    random_layers : sequence of str, default=()
        Layers or containers that begin with new random weights. Name the normalisation behind them too: it would keep
        statistics of activations that are no more (`norm_statistics`).
    num_layers_to_drop : int, default=1
        How many layers go from the top, in order of execution. Xfer's default was 2, as its networks ended in a
        softmax layer.
    pooling : str or callable, default="auto"
        As in `NeuralNetworkFineTuneRepurposer`.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkRandomFreezeRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = NeuralNetworkRandomFreezeRepurposer(network, fixed_layers=["0"], random_layers=["2"], num_epochs=3)
    >>> module = repurposer.repurpose(make_blobs(30, random_state=8)).target_model_
    >>> [bool((module.get_submodule(name).weight == network[int(name)].weight).all()) for name in ("0", "2")]
    [True, False]
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        target_class_count: int | None = None,
        fixed_layers: Sequence[str] = (),
        random_layers: Sequence[str] = (),
        num_layers_to_drop: int = 1,
        *,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.target_class_count = target_class_count
        self.fixed_layers = fixed_layers
        self.random_layers = random_layers
        self.num_layers_to_drop = num_layers_to_drop
        self.pooling = pooling

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        handler = self._handler_for(example_inputs)
        _refuse_both(handler, self.fixed_layers, self.random_layers)
        if self.num_layers_to_drop:
            handler.drop_layer_top(self.num_layers_to_drop)
        fixed = _still_there(handler, self.fixed_layers, "fixed_layers")
        random = _still_there(handler, self.random_layers, "random_layers")
        if random:
            handler.randomize(random)
        if fixed:
            handler.freeze(fixed)
        return add_head(handler, self._class_count(self.target_class_count), self.pooling)

    def _new_parameters(self, module: nn.Module) -> set[str]:
        drawn = tuple(f"{name}." for name in self.random_layers)  # a weight of 1 may be drawn as it was
        names = [name for name, _ in module.named_parameters()]
        return super()._new_parameters(module) | {name for name in names if name.startswith(drawn)}

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        for name in ("fixed_layers", "random_layers"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(n, str) for n in value):
                mistakes.append(f"{name} must be a list of layer names, got {value!r}")
        number = self.num_layers_to_drop
        if not is_whole(number, 0):
            mistakes.append(f"num_layers_to_drop must be a whole number of at least 0, got {number!r}")
        try:
            check_pooling(self.pooling)
        except ValueError as error:
            mistakes.append(str(error))
        return mistakes


def _refuse_both(handler: ModelHandler, fixed: Sequence[str], random: Sequence[str]) -> None:
    """Raise UnknownLayerError for names the network does not have, ModelError for a layer both fixed and random."""
    handler.get_layer_parameters([*fixed, *random])  # refuses all unknown names at once
    held = {name: set(handler.get_layer_parameters(name)) for name in fixed}
    drawn = {name: set(handler.get_layer_parameters(name)) for name in random}
    both = [
        f"{one!r}" if one == other else f"{one!r} (fixed) and {other!r} (random) share parameters"
        for one, its in held.items()
        for other, theirs in drawn.items()
        if one == other or its & theirs
    ]
    if both:
        raise ModelError(
            f"a layer is either fixed as it was or begins anew, and these are to do both: {'; '.join(both)}"
        )


def _still_there(handler: ModelHandler, names: Sequence[str], parameter: str) -> list[str]:
    """The names that the network still has; those that were dropped give a UserWarning."""
    kept = [name for name in names if name in handler]
    if dropped := [name for name in names if name not in kept]:
        warnings.warn(
            f"{parameter} names layers that num_layers_to_drop takes off: {dropped}", UserWarning, stacklevel=2
        )
    return kept
