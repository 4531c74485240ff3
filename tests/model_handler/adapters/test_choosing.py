"""Where adapters go: by words, names and types, and on which rows of fused projections."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, NoBlocksError
from tests.model_handler.adapters.networks import answer, family, randomise, tiny
from tests.model_handler.networks import handle

FUSED = ["ViT", "ViT of torchvision", "BEiT", "Swin-V2", "Swin-V2 of torchvision", "GPT-2", "torch's encoder"]


def adapted(name: str, where: object, **options: object) -> list[str]:
    network, inputs = family(name)
    return [adapter.layer for adapter in handle(network, inputs).add_adapters(where, rank=1, **options).adapters]


@pytest.mark.parametrize("name", FUSED)
def test_the_rows_of_query_and_value_get_products_of_their_own(name: str) -> None:
    network, inputs = family(name)
    handler = handle(network, inputs).add_adapters("attention", rank=2)
    module = handler.get_module().eval()
    assert torch.equal(answer(module, inputs), answer(network, inputs))
    assert len(handler.adapters) == len(handler.blocks) == 2
    randomise(module, 0.3)
    merged = handle(module, inputs).merge_adapters().get_module()
    torch.testing.assert_close(answer(merged, inputs), answer(module, inputs), rtol=0, atol=1e-5)
    weight = "in_proj_weight" if "torch" in name and "Swin" not in name else "weight"
    for adapter in handler.adapters:
        layer, path = module.get_submodule(adapter.layer), f"{adapter.layer}.{weight}"
        change = (merged.get_parameter(path) - network.get_parameter(path)).detach()
        change = change.T if name == "GPT-2" else change
        wanted = [
            layer.lora_B_query @ layer.lora_A_query,
            torch.zeros(len(change) // 3, change.shape[1]),
            layer.lora_B_value @ layer.lora_A_value,
        ]
        torch.testing.assert_close(change, torch.cat(wanted).detach(), rtol=1e-4, atol=1e-6)


def test_parts_name_the_projections() -> None:
    inside = "layers.0.attention"
    assert adapted("ViT of transformers", "attention")[:2] == [f"{inside}.q_proj", f"{inside}.v_proj"]
    assert len(adapted("ViT of transformers", "attention", parts="qkv")) == 6
    assert adapted("ViT of transformers", "attention", parts="o")[0] == f"{inside}.o_proj"
    assert adapted("torch's encoder", "attention", parts="qkvo")[:2] == [
        "layers.0.self_attn",
        "layers.0.self_attn.out_proj",
    ]
    handler = handle(*family("ViT"))
    for parts in ("", "qx", "qq", 3):
        with pytest.raises(ModelError, match="letters of 'qkvo'"):
            handler.add_adapters("attention", parts=parts)


def test_bias_and_scale_of_parts_change_their_rows_alone() -> None:
    network, inputs = family("ViT")
    for kind, names in (("bias", ["bias"]), ("scale_shift", ["weight", "bias"])):
        handler = handle(network, inputs).add_adapters("attention", kind, parts="k")
        module = randomise(handler.get_module())
        merged = handle(module, inputs).merge_adapters().get_module()
        for name in names:
            plain, new = (getattr(net.blocks[0].attn.qkv, name) for net in (network, merged))
            changed = (new != plain).flatten(1).any(1) if name == "weight" else new != plain
            assert changed.tolist() == [False] * 16 + [True] * 16 + [False] * 16


def test_attention_with_weights_of_three_widths() -> None:
    layer = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True).eval()

    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = layer

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return self.attention(a, b, c)[0]

    inputs = tuple(torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)) for width in (8, 6, 4))
    for kind in ("lora", "bias", "scale_shift"):
        network = Cross().eval()
        frozen = handle(network, inputs).freeze("attention").get_module()  # torch runs frozen weights another way
        module = handle(network, inputs).add_adapters("all", kind, rank=2).get_module()
        with torch.no_grad():
            torch.testing.assert_close(module(*inputs), frozen(*inputs), rtol=0, atol=0)
            randomise(module)
            merged = handle(module, inputs).merge_adapters().get_module()
            torch.testing.assert_close(merged(*inputs), module(*inputs))
            assert not torch.allclose(module(*inputs), network(*inputs))


def test_words_mean_layers_inside_blocks_or_everywhere() -> None:
    blocks = adapted("ConvNeXt", "pointwise")
    assert [path.removeprefix("stages.0.blocks.0.") for path in blocks[:2]] == ["mlp.fc1", "mlp.fc2"]
    assert all(path.startswith("stages") and "dw" not in path for path in blocks)
    assert adapted("ConvNeXt", "auto") == blocks
    everywhere = adapted("ConvNeXt", "all")
    assert {"stem.0", "head.fc", "stages.0.blocks.0.conv_dw"} <= set(everywhere)
    assert adapted("ViT", "auto") == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    with pytest.raises(ModelError, match="no block of the network has attention"):
        adapted("ConvNeXt", "attention")


def test_each_kind_finds_the_layers_that_it_fits() -> None:
    found = {}
    for kind in ("lora", "bias", "norm", "scale_shift"):
        handler = handle(tiny()).add_adapters("auto" if kind != "lora" else "all", kind, rank=1)
        found[kind] = [adapter.layer for adapter in handler.adapters]
    assert found == {
        "lora": ["0", "3", "4"],
        "bias": ["0", "1", "3", "4"],
        "norm": ["1"],
        "scale_shift": ["0", "1", "3", "4"],
    }


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("0", ["0"]),
        (["4", "0"], ["0", "4"]),
        ("convolution", ["0"]),
        (nn.Linear, ["3", "4"]),
        (["fullyconnected", "0"], ["0", "3", "4"]),
        (nn.Sequential, ["0", "3", "4"]),
    ],
)
def test_layers_are_named_by_names_and_types(where: object, wanted: list[str]) -> None:
    assert [adapter.layer for adapter in handle(tiny()).add_adapters(where, rank=1).adapters] == wanted


def test_a_list_means_layers_that_are_named_as_a_word() -> None:
    network = nn.Sequential()
    network.add_module("attention", nn.Linear(4, 4))
    network.add_module("other", nn.Linear(4, 4))
    assert [adapter.layer for adapter in handle(network).add_adapters(["attention"]).adapters] == ["attention"]
    with pytest.raises(NoBlocksError):
        handle(network, torch.ones(1, 4)).add_adapters("attention")


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.auxiliary = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) if x.sum() < 1e9 else self.auxiliary(x)


def test_layers_that_do_not_run_are_no_part_of_all() -> None:
    handler = handle(Unused(), torch.ones(1, 4)).add_adapters("all")
    assert [adapter.layer for adapter in handler.adapters] == ["body"]


@pytest.mark.parametrize(
    "layer",
    [nn.LayerNorm((3, 8)), nn.LayerNorm(8, bias=False), nn.GroupNorm(3, 3), nn.RMSNorm(8), nn.BatchNorm1d(3)],
    ids=repr,
)
def test_normalisations_of_all_shapes_are_tuned_and_merged(layer: nn.Module) -> None:
    network, x = nn.Sequential(layer).eval(), torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    for kind in ("norm", "scale_shift"):
        module = randomise(handle(network, x).add_adapters("0", kind).get_module().eval(), 0.5)
        held = dict(module[0].named_parameters())
        weight = held["weight"] + held["weight_offset"] if kind == "norm" else held["weight"] * held["ssf_scale"]
        merged = handle(module, x).merge_adapters().get_module()
        torch.testing.assert_close(merged[0].weight.detach(), weight.detach())
        torch.testing.assert_close(merged(x), module(x))
        assert not torch.allclose(module(x), network(x))
