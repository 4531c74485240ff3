"""Divergence: the group to blame, or the dtype of the weights."""

import pytest

from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.steps.objective import DivergedError
from tests.repurpose.examples import blobs, small_network


def test_weights_of_float16_are_named_as_the_reason_and_learn_in_float32():
    x, y = blobs(30)
    network = small_network()
    options = {"transfer_layer_name": "1", "num_epochs": 2, "random_state": 0}
    with pytest.raises(DivergedError, match=r"weights of float16 learn.*network.float\(\)"):
        NeuralNetworkFineTuneRepurposer(network.half(), **options).repurpose((x, y))
    NeuralNetworkFineTuneRepurposer(network.float(), **options).repurpose((x, y))
