"""Networks trained end to end or in part, as classifiers: fine-tuned, partly frozen and reinitialised, or your own.

May import: data, fitted, parameters, persistence, repurposer, seeding, training, transfer_estimator, model_handler.
"""

from repurpose.neural_network.adapter_repurposer import AdapterRepurposer
from repurpose.neural_network.fine_tune_repurposer import NeuralNetworkFineTuneRepurposer
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.neural_network.random_freeze_repurposer import NeuralNetworkRandomFreezeRepurposer

__all__ = [
    "AdapterRepurposer",
    "NeuralNetworkFineTuneRepurposer",
    "NeuralNetworkRandomFreezeRepurposer",
    "NeuralNetworkRepurposer",
]
