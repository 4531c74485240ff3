from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError
from repurpose import NeuralNetworkFineTuneRepurposer

X = torch.randint(0, 10, (30, 3), generator=torch.Generator().manual_seed(0))
y = np.arange(30) % 3
SGD = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 0.1, "momentum": 0.9}}


class Tokens(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.last = nn.Embedding(10, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.embedding(x).mean(1))


def trained(sparse: bool, **options: Any) -> NeuralNetworkFineTuneRepurposer:
    options = {"num_epochs": 2, "random_state": 0, **options}
    return NeuralNetworkFineTuneRepurposer(Tokens(sparse), "mean", **options).repurpose(X, y)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, r"AdamW does not take \(Adam does not support sparse gradients\)"),
        ({"optimizer": "RMSprop"}, "RMSprop does not take"),
        ({"optimizer": "SGD", "optimizer_params": {"weight_decay": 0.1}}, "SGD does not take"),
        ({**SGD, "l2_sp": 0.1}, r"SGD does not take \(l2_sp adds to every number\)"),
        ({"unfreeze": {"embedding": 1}}, "AdamW does not take"),
    ],
)
def test_layers_whose_gradients_are_not_taken_are_named_with_what_to_do(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as raised:
        trained(True, **options)
    assert "['embedding']" in str(raised.value)
    assert "`sparse = False`" in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        SGD,
        {"optimizer": "Adagrad"},
        {**SGD, "clip_norm": 0.1, "accumulation": 2, "batch_size": 7},
        {"learning_rates": {"embedding": 0, "*": 1e-3}},  # as the message says
    ],
)
def test_where_they_are_taken_training_is_that_of_dense_gradients(options: dict[str, Any]) -> None:
    sparse, dense = (trained(sparse, **options).predict_proba(X) for sparse in (True, False))
    np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e-6)
