"""`NeuralNetworkFineTuneRepurposer`: a network up to one of its layers, with a new head, trained at rates by layer."""

from typing import Any

from torch import nn

from model_handler import Source
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.neural_network.heads import add_head, class_count_mistakes, end_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer

__all__ = ["NeuralNetworkFineTuneRepurposer"]


class NeuralNetworkFineTuneRepurposer(NeuralNetworkRepurposer):
    """Keeps a network up to and including one layer, puts a linear layer on top, and trains all of it.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    transfer_layer_name : str
        The last layer that is kept, or a container such as "layer4".
    target_class_count : int, optional
        The width of the new layer; by default the number of classes seen in training. It may be more, for a class
        that is to come; probabilities have the columns of `classes_` all the same.
    pooling : str or callable, default="auto"
        How maps and tokens become a row before the new layer, as in `ModelHandler.extract`; ``"flatten"`` is Xfer's
        way.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
    >>> rates = {"new": 0.1, "0": 0.01}
    >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=40, learning_rates=rates)
    >>> repurposer.repurpose((X, y)).score((X, y))
    1.0
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str,
        target_class_count: int | None = None,
        *,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.transfer_layer_name = transfer_layer_name
        self.target_class_count = target_class_count
        self.pooling = pooling

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs).truncate(self.transfer_layer_name)
        return add_head(handler, width_of_head(self.target_class_count, self.classes_), self.pooling)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        return mistakes + end_mistakes(self.transfer_layer_name, self.pooling)
