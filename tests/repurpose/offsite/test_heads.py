"""Where the head of a network is, and networks with a new one."""

import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from repurpose.offsite.heads import head_path, with_new_head
from tests.repurpose.offsite.networks import bert, gpt2, images, resnet, tokens, vit


def test_the_head_is_the_linear_layer_that_gives_the_networks_own_output() -> None:
    assert head_path(ModelHandler(vit(), images())) == "heads.head"
    assert head_path(ModelHandler(bert(), tokens())) == "classifier"
    assert head_path(ModelHandler(gpt2(), tokens())) == "score"
    assert head_path(ModelHandler(bert(classes=False), tokens())) is None  # the pooler's gives nothing of the output


def test_a_network_that_gives_features_has_no_head() -> None:
    network = resnet()
    network.fc = nn.Identity()
    assert head_path(ModelHandler(network, images(1, 64))) is None


def test_a_new_head_stands_where_the_old_one_did() -> None:
    network = vit()
    made = with_new_head(ModelHandler(network, images()), "heads.head", 7)
    assert made(images()).shape == (4, 7)
    assert network(images()).shape == (4, 3)
    assert made.state_dict().keys() == network.state_dict().keys()


def test_a_head_of_the_same_sizes_is_kept() -> None:
    network = vit()
    made = with_new_head(ModelHandler(network, images()), "heads.head", 3)
    assert torch.equal(made(images()), network(images()))
    assert made.heads.head.weight is not network.heads.head.weight
    assert with_new_head(ModelHandler(network, images()), "heads.head", 3, bias=False).heads.head.bias is None


def test_a_network_without_a_head_gets_one_on_top() -> None:
    network = bert(classes=False)
    made = with_new_head(ModelHandler(network, tokens()), None, 4)
    assert made(**tokens()).shape == (4, 4)
    assert made.state_dict().keys() - network.state_dict().keys() == {"head.weight", "head.bias"}


@pytest.mark.parametrize("path", ["heads", "nowhere", "encoder.ln"])
def test_a_path_that_leads_to_no_linear_layer_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"no linear layer '{path}'"):
        with_new_head(ModelHandler(vit(), images()), path, 4)
