"""Classes of a user's own, in a module apart since saved files ask for them by its name."""

from typing import Any

from torch import nn

from repurpose import NeuralNetworkRepurposer
from tests.repurpose.examples import KnnRepurposer

__all__ = ["NeighboursRepurposer", "WholeNetworkRepurposer"]


class NeighboursRepurposer(KnnRepurposer):
    """Its head is an estimator of scikit-learn's."""


class WholeNetworkRepurposer(NeuralNetworkRepurposer):
    """Trains the source as it is, so that no weight is drawn: processors differ in the last bit of what they draw."""

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        return self._handler_for(example_inputs).get_module()
