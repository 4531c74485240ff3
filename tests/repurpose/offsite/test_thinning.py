"""What is left of a network without some of its blocks."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, UnknownLayerError
from model_handler.network.copying import deep_copy
from repurpose.offsite.thinning import new_name, thin
from tests.repurpose.offsite.networks import bert, gpt2, images, resnet, tokens, vit


def test_a_thinned_transformer_is_one_that_skips_the_blocks() -> None:
    network, X = vit(), images()
    tokens_of = network.conv_proj(X).flatten(2).transpose(1, 2)
    z = torch.cat([network.class_token.expand(4, -1, -1), tokens_of], dim=1) + network.encoder.pos_embedding
    for number in (0, 2, 5):
        z = network.encoder.layers[number](z)
    wanted = network.heads(network.encoder.ln(z)[:, 0])
    thinned = deep_copy(network)
    renames = thin(thinned, [f"encoder.layers.encoder_layer_{number}" for number in (1, 3, 4)])
    assert torch.equal(thinned(X), wanted)
    assert renames["encoder.layers.encoder_layer_5"] == "encoder.layers.encoder_layer_5"  # names that are no numbers
    assert "encoder.layers.encoder_layer_3" not in renames


def test_numbered_blocks_are_counted_anew() -> None:
    network, X = resnet(), images(2, 32)
    wanted = network.maxpool(network.act1(network.bn1(network.conv1(X))))
    kept = [network.layer1, network.layer2[0], network.layer2[3], network.layer3, network.layer4, network.global_pool]
    for part in kept:
        wanted = part(wanted)
    thinned = deep_copy(network)
    renames = thin(thinned, ["layer2.1", "layer2.2"])
    assert torch.equal(thinned(X), network.fc(wanted.flatten(1)))
    assert (renames["layer2.3"], renames["layer3.1"], renames["layer2.3.bn1"]) == (
        "layer2.1",
        "layer3.1",
        "layer2.1.bn1",
    )
    assert new_name("layer2.3.conv1.weight", renames) == "layer2.1.conv1.weight"
    assert thinned.state_dict().keys() == {
        new_name(name, renames) for name in network.state_dict() if name.rpartition(".")[0] in renames
    }


def test_layers_behind_the_blocks_in_the_same_container_get_new_numbers_too() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Flatten(), nn.Linear(2, 3))
    last = network[4]
    assert thin(network, ["1", "2"]) == {"0": "0", "3": "1", "4": "2"}
    assert network[2] is last


@pytest.mark.parametrize(("make", "path"), [(bert, "bert.encoder.layer"), (gpt2, "transformer.h")])
def test_a_network_of_its_configuration_is_the_same(make: object, path: str) -> None:
    network = make()  # type: ignore[operator]
    thinned = deep_copy(network)
    thin(thinned, [f"{path}.{number}" for number in (1, 2, 4)])
    again = pytest.importorskip("transformers").AutoModelForSequenceClassification.from_config(thinned.config).eval()
    again.load_state_dict(thinned.state_dict())
    assert torch.equal(again(**tokens()).logits, thinned(**tokens()).logits)
    indices = [part.layer_idx for part in thinned.modules() if hasattr(part, "layer_idx")]
    assert indices == [part.layer_idx for part in again.modules() if hasattr(part, "layer_idx")]
    assert (thinned.config.num_hidden_layers, network.config.num_hidden_layers) == (3, 6)


def test_a_thinned_text_network_is_one_that_skips_the_blocks() -> None:
    network, thinned = bert(), bert()
    thin(thinned, ["bert.encoder.layer.1", "bert.encoder.layer.4"])
    for number in (1, 4):  # what a block gives is what it reads
        network.bert.encoder.layer[number].forward = lambda hidden, *args, **options: hidden
    assert torch.equal(thinned(**tokens()).logits, network(**tokens()).logits)


def test_what_a_configuration_says_of_each_layer_is_of_the_layers_that_are_left() -> None:
    network = gpt2()
    network.config.layer_types = [f"kind {number}" for number in range(6)]
    thin(network, ["transformer.h.0", "transformer.h.3"])
    assert network.config.layer_types == ["kind 1", "kind 2", "kind 4", "kind 5"]
    assert network.config.n_layer == 4


class _Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.alone = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alone(self.inner(x))


def test_a_block_that_is_no_item_of_a_container_is_refused_and_nothing_is_taken_out() -> None:
    network = _Named()
    with pytest.raises(ModelError, match=r"'alone' cannot be left out.*attribute of a _Named"):
        thin(network, ["inner.0", "alone"])
    assert len(network.inner) == 2


def test_an_unknown_block_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownLayerError, match=r"'inner\.3'; nearest: inner\."):
        thin(_Named(), ["inner.3"])


def test_a_block_that_stands_in_two_places_is_refused() -> None:
    shared = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="'0' cannot be left out: it stands in the network several times"):
        thin(nn.Sequential(shared, nn.Linear(2, 2), shared), ["0"])
