from typing import Any

import pytest
import torch
from torch import nn

from model_handler.frozen_prefix.splitting import split
from repurpose import ToastRepurposer
from tests.repurpose.neural_network.toast.networks import Texts, fused_vit, images, tiny_bert, tiny_resnet


def trained(network: Any, data: Any) -> Any:
    return ToastRepurposer(network, num_epochs=1, random_state=0, verbose=False).repurpose(data).target_model_


@pytest.mark.parametrize("make", [fused_vit, tiny_resnet])
def test_the_rest_goes_on_from_the_first_pass_and_the_inputs(make: Any) -> None:
    X, y = images()
    module = trained(make(), (X, y))
    found = split(module, X[:2]).frontier
    assert found is not None
    z, inputs = found.values(X)
    assert torch.equal(z, module.first_pass(X))
    assert torch.equal(inputs, X)
    assert found.shapes == (tuple(z.shape[1:]), tuple(X.shape[1:]))
    assert torch.equal(found.rest(z, inputs), module(X))
    names = [name for name, _ in module.named_parameters()]
    own = dict(found.rest.named_parameters())
    assert list(own) == names
    assert all(own[name] is parameter for name, parameter in module.named_parameters())


def test_inputs_by_name_are_handed_over_in_one_order() -> None:
    data = Texts([[3, 4, 5, 6], [4, 5, 6, 0]] * 2)
    module = trained(tiny_bert(), data)
    batch = {"input_ids": data.ids, "attention_mask": (data.ids > 0).long()}
    found = split(module, batch).frontier
    assert found is not None
    assert found.layer_names == ("encoder.layer.1", "input_ids", "attention_mask")
    values = found.values(dict(reversed(batch.items())))
    assert torch.equal(found.rest(*values), module(**batch))


def test_the_cost_of_the_first_pass_is_that_of_one_row() -> None:
    X, y = images()
    found = split(trained(fused_vit(), (X, y)), X[:2]).frontier
    assert found is not None
    one = found.n_flops(X[:1])
    assert found.n_flops(X) == one
    # by hand, two for each weight and token: patches, and of two blocks the layers; attention over 5 tokens is little
    by_hand = 2 * 4 * (3 * 64 * 16) + 2 * 2 * 5 * (12 * 16 * 16)
    assert by_hand <= one < 1.1 * by_hand


def test_tokens_in_front_of_rows_are_trained_whole() -> None:
    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16) for _ in range(2)])
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.transpose(0, 1)
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean(0))

    torch.manual_seed(0)
    X, y = torch.rand(8, 3, 8), [0, 1] * 4
    module = trained(TokensFirst().eval(), (X, y))
    assert "tokens in front of rows" in split(module, X[:2]).reason
    assert torch.allclose(module(X)[:1], module(X[:1]), atol=1e-6)
