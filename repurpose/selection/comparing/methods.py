"""The methods that are compared, from the cheapest to the dearest: heads on features, an adapter, fine-tuning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from model_handler import Source
from repurpose.meta_model import GpRepurposer, LrRepurposer, MetaModelRepurposer
from repurpose.neural_network import AdapterRepurposer, NeuralNetworkFineTuneRepurposer, NeuralNetworkRepurposer

__all__ = ["HEADS", "METHODS", "NETWORKS", "Head", "Network"]


@dataclass(frozen=True)
class Head:
    """A head on features that are extracted once: of the last layer, or of layers that each training chooses."""

    kind: type[MetaModelRepurposer]
    chooses_layers: bool

    def make(self, source: nn.Module | Source | str, layers: list[str], **options: Any) -> MetaModelRepurposer:
        """Make an untrained one for features of these layers."""
        return self.kind(source, "auto" if self.chooses_layers else layers, **options)


@dataclass(frozen=True)
class Network:
    """A network up to a layer with a new head, of which all or little is trained on the inputs themselves."""

    make: Callable[..., NeuralNetworkRepurposer]


def _adapter(source: nn.Module | Source | str, layer: str, **options: Any) -> NeuralNetworkRepurposer:
    return AdapterRepurposer(source, transfer_layer_name=layer, **options)


HEADS: Mapping[str, Head] = {
    "lr, last layer": Head(LrRepurposer, chooses_layers=False),
    "gp, last layer": Head(GpRepurposer, chooses_layers=False),
    "lr, chosen layers": Head(LrRepurposer, chooses_layers=True),
    "gp, chosen layers": Head(GpRepurposer, chooses_layers=True),
}
NETWORKS: Mapping[str, Network] = {
    "adapter": Network(_adapter),
    "fine-tuning": Network(NeuralNetworkFineTuneRepurposer),
}
METHODS = (*HEADS, *NETWORKS)
