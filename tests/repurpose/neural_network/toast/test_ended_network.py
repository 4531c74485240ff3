from typing import Any

import pytest
import torch

from model_handler import ModelError, ModelHandler, UnknownLayerError
from repurpose.neural_network.toast.ended_network import classifier_of, ended_network, example_on
from tests.repurpose.neural_network.toast.networks import fused_vit, images, tiny_bert, tiny_resnet


def test_by_default_a_network_ends_where_its_last_linear_layer_reads() -> None:
    network, (X, _) = tiny_resnet(), images()
    handler = ModelHandler(network, X)
    assert classifier_of(handler) == "fc"
    ended = ended_network(handler, None, X)
    expected = network.blocks(network.stem(X)).mean((2, 3))  # type: ignore[operator]
    assert torch.equal(ended(X), expected)
    assert isinstance(network.fc, torch.nn.Linear)


def test_linear_layers_inside_blocks_are_no_classifiers() -> None:
    ids = torch.ones(2, 4).long()
    handler = ModelHandler(tiny_bert(add_pooling_layer=False), {"input_ids": ids})
    assert classifier_of(handler) is None
    assert ended_network(handler, None, {"input_ids": ids})(ids).last_hidden_state.shape == (2, 4, 16)


def test_a_named_layer_ends_it_and_of_several_calls_the_last_or_the_one_named() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.act = fused_vit(num_classes=0), torch.nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(2 * self.act(self.inner(x)))

    network, (X, _) = Twice().eval(), images()
    handler = ModelHandler(network, X)
    once = network.inner(X).tanh()
    assert torch.equal(ended_network(handler, "act", X)(X), (2 * once).tanh())
    assert torch.equal(ended_network(handler, "act@0", X)(X), once)
    assert torch.equal(ended_network(handler, "act@1", X)(X), (2 * once).tanh())


def test_names_of_no_module_are_refused() -> None:
    X, _ = images()
    handler = ModelHandler(fused_vit(), X)
    with pytest.raises(UnknownLayerError, match=r"no layer 'nrm'; nearest: .*norm"):
        ended_network(handler, "nrm", X)
    with pytest.raises(ModelError, match=r"'blocks\.0\.add' is an operation and no module"):
        ended_network(handler, "blocks.0.add", X)


def test_the_copy_has_weights_of_its_own() -> None:
    network, (X, _) = fused_vit(), images()
    ended: Any = ended_network(ModelHandler(network, X), None, X)
    ended.blocks[0].attn.qkv.weight.data.zero_()
    assert network.blocks[0].attn.qkv.weight.any()  # type: ignore[union-attr, index, operator]


def test_examples_of_a_file_have_no_padding() -> None:
    zeros = torch.zeros(2, 4).long()
    found: Any = example_on(tiny_bert(), {"input_ids": zeros, "attention_mask": zeros})
    assert found["attention_mask"].all()
    assert not found["input_ids"].any()
    ids, mask = example_on(tiny_bert(), (zeros, zeros))
    assert mask.all()
    assert not ids.any()
