from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import NotFittedError
from torch import nn

from model_handler import ModelError
from repurpose import ToastRepurposer
from tests.repurpose.neural_network.toast.networks import (
    N_HEADS,
    WIDTH,
    Texts,
    fused_vit,
    images,
    multi_head_vit,
    tiny_bert,
    tiny_resnet,
)


def repurposed(network: nn.Module, data: Any) -> Any:
    repurposer = ToastRepurposer(network, num_epochs=1, random_state=0, verbose=False).repurpose(data)
    module = repurposer.target_model_
    torch.manual_seed(0)
    nn.init.normal_(module.selection.P)  # so that steering moves attention
    return repurposer


def weights_by_hand(block: Any, h: torch.Tensor) -> torch.Tensor:
    """The attention (n_rows, n_tokens, n_tokens) of timm's block, the mean over its heads, of tokens h."""
    query, key, _ = (h @ w.T + b for w, b in zip(block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)))
    heads = zip(query.chunk(N_HEADS, dim=-1), key.chunk(N_HEADS, dim=-1), strict=True)
    scale = (WIDTH // N_HEADS) ** -0.5
    return torch.stack([(q @ k.mT * scale).softmax(dim=-1) for q, k in heads]).mean(0)


def test_the_map_before_steering_is_the_attention_of_the_class_token_in_the_last_block() -> None:
    network, (X, y) = fused_vit(img_size=24), images(size=24)
    repurposer = repurposed(network, (X, y))
    read: list[torch.Tensor] = []
    network.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: read.append(output))
    network(X)
    expected = weights_by_hand(network.blocks[-1], read[0])[:, 0, 1:].unflatten(1, (3, 3))
    maps = repurposer.attention_maps(X, before=True)
    assert np.allclose(maps, expected.detach(), atol=1e-6)
    assert not np.allclose(repurposer.attention_maps(X), maps, atol=1e-4)


def test_the_map_after_steering_is_that_of_the_second_pass() -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = repurposed(network, (X, y))
    module, read = repurposer.target_model_, []
    module.network.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: read.append(output))
    module(X)
    expected = weights_by_hand(network.blocks[-1], read[1])[:, 0, 1:].unflatten(1, (2, 2))
    assert np.allclose(repurposer.attention_maps(X), expected.detach(), atol=1e-6)


def test_multi_head_attention_tells_its_weights_too() -> None:
    network, (X, y) = multi_head_vit(), images()
    repurposer = repurposed(network, (X, y))
    found: list[torch.Tensor] = []
    attention: Any = network.encoder.layers[-1].self_attention

    def attend(module: Any, inputs: Any) -> None:
        found.append(F.multi_head_attention_forward(*_arguments(module, inputs[0].transpose(0, 1)))[1])

    attention.register_forward_pre_hook(attend)
    network(X)
    expected = found[0][:, 0, 1:].unflatten(1, (2, 2))
    assert np.allclose(repurposer.attention_maps(X, before=True), expected.detach(), atol=1e-6)


def _arguments(attention: Any, x: torch.Tensor) -> tuple[Any, ...]:
    weights = (attention.in_proj_weight, attention.in_proj_bias, None, None, False, 0.0)
    return (x, x, x, WIDTH, N_HEADS, *weights, attention.out_proj.weight, attention.out_proj.bias)


@pytest.mark.parametrize(
    ("options", "n_prefix"), [({"class_token": False}, 0), ({"reg_tokens": 2, "class_token": False}, 2)]
)
def test_without_a_class_token_the_map_is_the_mean_over_all_that_look(options: Any, n_prefix: int) -> None:
    network, (X, y) = fused_vit(global_pool="avg", **options), images()
    repurposer = repurposed(network, (X, y))
    read: list[torch.Tensor] = []
    network.blocks[-1].norm1.register_forward_hook(lambda module, inputs, output: read.append(output))
    network(X)
    expected = weights_by_hand(network.blocks[-1], read[0]).mean(1)[:, n_prefix:].unflatten(1, (2, 2))
    assert np.allclose(repurposer.attention_maps(X, before=True), expected.detach(), atol=1e-6)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_texts_have_a_number_a_token_and_none_for_padding(implementation: str) -> None:
    network: Any = tiny_bert()
    network.set_attn_implementation(implementation)
    data = Texts([[3, 4, 5, 6], [3, 7, 8, 0]] * 2)
    maps = repurposed(network, data).attention_maps(data)
    assert maps.shape == (4, 4)
    assert np.allclose(maps.sum(1), 1)
    assert (maps[1, 3], maps[1, 2] > 0) == (0, True)


def test_networks_that_look_back_alone_show_the_mean_of_all_tokens() -> None:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    network = GPT2Model(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=20, n_positions=8)).eval()
    data = Texts([[3, 4, 5, 6], [4, 5, 6, 7]] * 2)
    maps = repurposed(network, data).attention_maps(data)
    assert np.allclose(maps.sum(1), 1)
    assert (maps[:, 0] > maps[:, 3]).all()  # all four see the first token, and one the last
    assert (maps[:, 3] > 0).all()


def test_a_convolutional_network_shows_what_each_pass_selects() -> None:
    network, (X, y) = tiny_resnet(), images()
    repurposer = repurposed(network, (X, y))
    module = repurposer.target_model_
    z = network.blocks(network.stem(X)).detach()  # type: ignore[operator]
    normal = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    cosine = torch.einsum("nchw,c->nhw", normal, module.selection.xi) / normal.norm(dim=1) / module.selection.xi.norm()
    before = repurposer.attention_maps(X, before=True)
    assert np.allclose(before, cosine.clamp(0, 1).detach(), atol=1e-5)
    assert before.shape == repurposer.attention_maps(X).shape == (8, 8, 8)
    assert not np.allclose(repurposer.attention_maps(X), before, atol=1e-4)


def test_a_repurposer_that_learned_nothing_has_no_maps() -> None:
    with pytest.raises(NotFittedError):
        ToastRepurposer(fused_vit()).attention_maps(images()[0])


def test_the_layer_that_fails_on_other_images_is_named() -> None:
    repurposer = repurposed(tiny_resnet(), images())
    with pytest.raises(ModelError, match=r"layer 'network\.stem\.0', Conv2d.* failed on input of shape \(2, 4"):
        repurposer.attention_maps(torch.rand(2, 4, 16, 16))
