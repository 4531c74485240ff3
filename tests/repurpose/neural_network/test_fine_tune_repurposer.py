from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import UnknownLayerError
from repurpose import NeuralNetworkFineTuneRepurposer
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract


class TestContract(NetworkContract):
    grid = {"optimizer_params": [{"learning_rate": 0.01}, {"learning_rate": 0.05}]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> NeuralNetworkFineTuneRepurposer:
        quick = {"num_epochs": 20, "optimizer_params": {"learning_rate": 0.05}}
        return NeuralNetworkFineTuneRepurposer(source_model, "2", **{**quick, **options})
