"""Which layers a handler proposes as features."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from model_handler import ModelError, ModelHandler
from tests.model_handler.networks import Attention, DataDependent, Residual, handle, images


def test_stages_of_a_residual_network_and_what_its_classifier_reads() -> None:
    handler = ModelHandler(torchvision.models.resnet18(), torch.empty(1, 3, 64, 64, device="meta"))
    assert handler.candidate_layers() == ["maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"]
    assert handler.candidate_layers(1) == ["avgpool"]
    assert handler.classifier_input == "avgpool"


def test_many_blocks_are_thinned_out_evenly() -> None:
    names = ModelHandler("efficientnet-lite0").candidate_layers(5)
    assert len(names) == 5
    assert names[-1] == "_avg_pooling"
    blocks = [int(name.removeprefix("_blocks.")) for name in names[:-1]]
    assert blocks == sorted(set(blocks))
    assert blocks[0] <= 3
    assert 10 <= blocks[-1] <= 14


@pytest.mark.parametrize("n_rows", [0, 2])
def test_a_block_is_never_taken_apart_however_many_layers_are_asked_for(n_rows: int) -> None:
    network = torchvision.models.resnet18()
    handler = ModelHandler(network) if n_rows else ModelHandler(network, torch.empty(1, 3, 64, 64, device="meta"))
    names = handler.candidate_layers(100, torch.rand(n_rows, 3, 64, 64) if n_rows else None)
    blocks = [f"layer{stage}.{number}" for stage in (1, 2, 3, 4) for number in (0, 1)]
    assert names == ["bn1", "relu", "maxpool", *blocks, "avgpool"]


def test_a_plain_sequence_gives_its_layers_up_to_the_input_of_the_classifier() -> None:
    head = [nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Linear(8, 3), nn.Softmax(1)]
    handler = ModelHandler(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), *head))
    assert handler.classifier_input == "4"
    assert handler.candidate_layers(data=images()) == ["1", "2", "3", "4"]


def test_without_a_classifier_the_last_layer_is_the_last_candidate() -> None:
    handler = ModelHandler(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    assert handler.classifier_input is None
    assert handler.candidate_layers(data=images()) == ["0", "1"]
    assert ModelHandler(nn.Sequential(nn.Identity())).candidate_layers(data=images()) == ["0"]


@pytest.mark.parametrize("network", [Residual(), DataDependent(), Attention()])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_every_candidate_can_be_extracted_traced_or_by_hooks(network: nn.Module, n: int) -> None:
    handler, data = handle(network), _inputs_of(network)
    names = handler.candidate_layers(n, data)
    assert 1 <= len(names) <= n
    assert len(handler.extract(data, names, pooling="auto")) == len(data)


def test_outputs_that_are_no_rows_of_the_inputs_are_left_out() -> None:
    class Positions(nn.Module):
        """Has one row for the whole batch, and a part that returns two tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.position, self.both = nn.Linear(4, 4), nn.LSTM(4, 4, batch_first=True)
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x) + self.position(torch.ones(1, 4))
            return self.last(self.both(x[:, None])[0][:, 0])

    handler, data = ModelHandler(Positions().eval()), np.ones((3, 4), np.float32)
    names = handler.candidate_layers(data=data)
    assert "first" in names
    assert not {"position", "both"} & set(names)
    assert len(handler.extract(data, names)) == 3


def test_the_same_names_from_blank_images_example_inputs_and_data() -> None:
    network = torchvision.models.resnet18()
    known = ModelHandler(network, torch.empty(1, 3, 64, 64, device="meta")).candidate_layers()
    assert ModelHandler(network).candidate_layers(data=torch.rand(3, 3, 64, 64)) == known


def test_without_shapes_and_data_the_error_says_what_to_give() -> None:
    with pytest.raises(ModelError, match="candidate_layers needs data or example inputs"):
        ModelHandler(nn.Sequential(nn.Linear(4, 2))).candidate_layers()


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "all"])
def test_a_number_of_candidates_that_is_none_is_refused(n: object) -> None:
    with pytest.raises(ModelError, match="n must be a whole number of at least 1"):
        ModelHandler(nn.Sequential(nn.Linear(4, 2))).candidate_layers(n)  # type: ignore[arg-type]


def _inputs_of(network: nn.Module) -> torch.Tensor:
    sizes = {Attention: (5, 6, 4), DataDependent: (5, 4)}
    return torch.rand(sizes[type(network)]) if type(network) in sizes else images()
