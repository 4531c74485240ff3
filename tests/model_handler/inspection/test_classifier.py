"""Which layer is the classifier of a network, and what it reads."""

import pytest
import torch
import torchvision
from torch import nn

from model_handler import ModelError, ModelHandler
from tests.model_handler.blocks.networks import Skip, handler_of, hugging_face, tokens


def test_the_classifier_is_the_last_linear_layer() -> None:
    assert handler_of(torchvision.models.resnet18()).classifier == "fc"


def test_linear_layers_inside_blocks_are_no_classifiers() -> None:
    assert handler_of(hugging_face("bert"), tokens()).classifier == "pooler.dense"
    blocks = [Skip(nn.Linear(8, 8)) for _ in range(3)]
    assert handler_of(nn.Sequential(*blocks, nn.LayerNorm(8)), torch.rand(1, 8)).classifier is None


def test_without_blocks_the_last_linear_layer_counts() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(1))
    handler = ModelHandler(network, torch.rand(2, 4))
    assert (handler.classifier, handler.classifier_input) == ("2", "1")


def test_without_inputs_the_error_says_how_to_give_them() -> None:
    with pytest.raises(ModelError, match="finding blocks needs example inputs"):
        _ = ModelHandler(torchvision.models.resnet18()).classifier


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x).relu()
        return self.first(features), self.second(features)


def test_a_head_beside_the_last_one_is_not_what_that_one_reads() -> None:
    handler = ModelHandler(TwoHeads(), torch.rand(2, 4))
    assert (handler.classifier, handler.classifier_input) == ("second", "relu")
