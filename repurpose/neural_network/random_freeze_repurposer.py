"""`NeuralNetworkRandomFreezeRepurposer`: some layers of a network frozen, some reinitialised, and a new head."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.errors import ModelError
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.neural_network.heads import add_head, class_count_mistakes, pooling_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.parameters import is_whole

__all__ = ["NeuralNetworkRandomFreezeRepurposer"]


class NeuralNetworkRandomFreezeRepurposer(NeuralNetworkRepurposer):
    """Drops the last layers of a network, puts a linear layer on top, freezes some layers and reinitialises others.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    target_class_count : int, optional
        As in `NeuralNetworkFineTuneRepurposer`.
    fixed_layers : sequence of str, default=()
        Layers or containers that do not learn: no gradient, no dropout, no change of normalisation's statistics.
    random_layers : sequence of str, default=()
        Layers or containers that are reinitialised with random weights. Name the normalisation behind them too: it
        would keep statistics of activations that are no longer computed (`norm_statistics`).
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

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        _refuse_both(handler, self.fixed_layers, self.random_layers)
        if self.num_layers_to_drop:
            handler.drop_layer_top(self.num_layers_to_drop)
        fixed = _remaining(handler, self.fixed_layers, "fixed_layers")
        random = _remaining(handler, self.random_layers, "random_layers")
        if random:
            handler.randomize(random)
        if fixed:
            handler.freeze(fixed)
        return add_head(handler, width_of_head(self.target_class_count, self.classes_), self.pooling)

    def _new_parameters(self, module: nn.Module) -> set[str]:
        drawn = tuple(f"{name}." for name in self.random_layers)  # a norm's weight may be 1 before and after
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
        return mistakes + pooling_mistakes(self.pooling)


def _refuse_both(handler: ModelHandler, fixed: Sequence[str], random: Sequence[str]) -> None:
    """Raise UnknownLayerError for names the network does not have, ModelError for a layer both fixed and random."""
    handler.get_layer_parameters([*fixed, *random])  # refuses all unknown names at once
    of_fixed = {name: set(handler.get_layer_parameters(name)) for name in fixed}
    of_random = {name: set(handler.get_layer_parameters(name)) for name in random}
    both = [
        f"{name!r}" if name == other else f"{name!r} (fixed) and {other!r} (random) share parameters"
        for name, parameters in of_fixed.items()
        for other, others in of_random.items()
        if name == other or parameters & others
    ]
    if both:
        raise ModelError(
            f"a layer is either fixed as it was or reinitialised, and these are to do both: {'; '.join(both)}"
        )


def _remaining(handler: ModelHandler, names: Sequence[str], parameter: str) -> list[str]:
    """List the names that the network still has; those that were dropped give a UserWarning."""
    kept = [name for name in names if name in handler]
    if dropped := [name for name in names if name not in kept]:
        warnings.warn(
            f"{parameter} names layers that num_layers_to_drop takes off: {dropped}", UserWarning, stacklevel=2
        )
    return kept
