"""Which rows of which weights make queries, keys, values and outputs, against what the classes are known to do."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from model_handler import Attention, ModelError, Projection
from tests.model_handler.blocks.networks import Skip, handler_of, hugging_face, swin_v2, tokens, vit


def fused(module: str, width: int, output: str, n_heads: int, weight: str = "weight") -> Attention:
    parts = [Projection(module, place * width, (place + 1) * width, weight) for place in range(3)]
    return Attention(*parts, Projection(output, 0, width), n_heads)


def separate(modules: list[str], width: int, n_heads: int) -> Attention:
    return Attention(*(Projection(module, 0, width) for module in modules), n_heads)


def test_rows_of_a_fused_weight_belong_to_query_key_and_value() -> None:
    handler = handler_of(timm.create_model("test_vit", img_size=64))
    assert handler.attention("blocks.2") == fused("blocks.2.attn.qkv", 64, "blocks.2.attn.proj", 2)


def test_torch_s_own_attention_has_one_weight_of_another_name() -> None:
    handler = handler_of(vit())
    path = "encoder.layers.encoder_layer_2.self_attention"
    assert handler.attention(handler.blocks[2]) == fused(path, 16, f"{path}.out_proj", 2, "in_proj_weight")


def test_torch_s_own_attention_over_other_widths_has_three() -> None:
    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x[..., :6], x[..., :4])[0]

    found = handler_of(nn.Sequential(Skip(Across()), Skip(Across())), torch.rand(1, 5, 8)).attention("1")
    path = "1.layer.attention"
    parts = [Projection(path, 0, 8, f"{letter}_proj_weight") for letter in "qkv"]
    assert found == Attention(*parts, Projection(f"{path}.out_proj", 0, 8), 2)


def test_a_transposed_weight_is_sliced_along_its_outputs() -> None:
    attention = handler_of(hugging_face("gpt2"), tokens()).attention("h.1")
    assert attention == fused("h.1.attn.c_attn", 16, "h.1.attn.c_proj", 2)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_softmax_between_products_tells_the_same_as_the_fused_function(implementation: str) -> None:
    network = hugging_face("bert")
    network.set_attn_implementation(implementation)
    own = [f"encoder.layer.1.attention.self.{name}" for name in ("query", "key", "value")]
    found = handler_of(network, tokens()).attention("encoder.layer.1")
    assert found == separate([*own, "encoder.layer.1.attention.output.dense"], 16, 2)


def test_a_convolution_may_be_the_projection() -> None:
    own = [f"encoder.layers.0.attention.{name}" for name in ("query", "key", "value")]
    found = handler_of(hugging_face("squeezebert"), tokens()).attention("encoder.layers.0")
    assert found == separate([*own, "encoder.layers.0.post_attention.conv1d"], 16, 2)


def test_normalised_queries_and_windows_with_a_bias_are_followed() -> None:
    handler = handler_of(swin_v2())
    assert handler.attention("features.3.1") == fused("features.3.1.attn.qkv", 16, "features.3.1.attn.proj", 4)


def test_weights_made_in_inference_mode_are_followed_too() -> None:
    with torch.inference_mode():
        network = timm.create_model("test_vit", img_size=64)
    assert handler_of(network).attention("blocks.0") == fused("blocks.0.attn.qkv", 64, "blocks.0.attn.proj", 2)


def test_a_weight_that_is_read_and_not_called_is_found() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.mlp = nn.Linear(6, 18), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            value, query, key = nn.functional.linear(x, self.qkv.weight).chunk(3, -1)
            x = x + (query * 0.5 @ key.transpose(1, 2)).softmax(-1) @ value
            return x + self.mlp(x)  # which is no projection of the attention's output

    found = handler_of(nn.Sequential(Reading(), Reading()), torch.rand(1, 5, 6)).attention("0")
    query, key, value = (Projection("0.qkv", start, start + 6) for start in (6, 12, 0))
    assert found == Attention(query, key, value, output=None, n_heads=None)


def test_a_call_of_a_module_that_runs_several_times_has_the_attention_of_the_module() -> None:
    handler = handler_of(hugging_face("albert"), tokens())
    first, again = handler.blocks[0], handler.blocks[2]
    assert handler.attention(again) == handler.attention(first)
    assert handler.attention(again).query == Projection(f"{first.name}.attention.query", 0, 16)


def test_a_block_without_attention_is_refused() -> None:
    with pytest.raises(ModelError, match=r"there is no attention in block 'layer2\.0': neither"):
        handler_of(torchvision.models.resnet18()).attention("layer2.0")


def test_rows_that_do_not_lie_together_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'layers\.0\.attention\.query_key_value\.weight'.*do not lie together"):
        handler_of(hugging_face("gpt_neox"), tokens()).attention("layers.0")
