"""The blocks of small networks of many families: names, widths, strides and stages as their authors built them."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from model_handler import Block, NoBlocksError
from tests.model_handler.blocks.networks import (
    Skip,
    convnext,
    expand,
    handler_of,
    hugging_face,
    swin,
    swin_v2,
    tokens,
    vit,
)

MOBILENET_V2 = [(16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]


def table(network: nn.Module, **options: object) -> list[tuple[str, int, int, int]]:
    return [(b.name, b.width, b.stride, b.stage) for b in handler_of(network, **options).blocks]


def stages(sizes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Width, stride and stage of each block, from width, number of blocks and first stride of each group of them."""
    found, stage = [], 0
    for number, (width, count, stride) in enumerate(sizes):
        stage += stride > 1 and number > 0
        found += [(width, stride if place == 0 else 1, stage) for place in range(count)]
    return found


def test_a_block_of_resnet_that_changes_the_resolution_begins_a_stage() -> None:
    sizes = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]
    names = expand("layer1.{2}", "layer2.{2}", "layer3.{2}", "layer4.{2}")
    assert table(torchvision.models.resnet18()) == [(n, *s) for n, s in zip(names, stages(sizes), strict=True)]


def test_inverted_residuals_are_blocks_also_where_they_change_the_width_and_have_no_shortcut() -> None:
    names = [f"features.{number}" for number in range(1, 18)]
    found = table(torchvision.models.mobilenet_v2())
    assert found == [(n, *s) for n, s in zip(names, stages(MOBILENET_V2), strict=True)]


def test_the_first_block_of_an_efficientnet_of_timm_is_one_although_its_class_has_no_shortcut() -> None:
    names = expand("blocks.0.0", "blocks.1.{2}", "blocks.2.{2}", "blocks.3.{3}", "blocks.4.{3}", "blocks.5.{4}")
    assert [block.name for block in handler_of(timm.create_model("efficientnet_lite0")).blocks] == [
        *names,
        "blocks.6.0",
    ]


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (vit, expand("encoder.layers.encoder_layer_{3}")),
        (swin, expand("features.1.{2}", "features.3.{2}")),
        (swin_v2, expand("features.1.{2}", "features.3.{2}")),
        (convnext, expand("features.1.{2}", "features.3.{1}")),
        (
            torchvision.models.regnet_x_400mf,
            [
                *expand("trunk_output.block1.block1-{1}", "trunk_output.block2.block2-{2}"),
                *expand("trunk_output.block3.block3-{7}", "trunk_output.block4.block4-{12}"),
            ],
        ),
        (lambda: timm.create_model("test_vit", img_size=64), expand("blocks.{6}")),
    ],
    ids=["vit", "swin", "swin v2", "convnext", "regnet", "timm vit"],
)
def test_blocks_are_those_of_the_architecture(build, names: list[str]) -> None:
    assert [block.name for block in handler_of(build()).blocks] == names


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("bert", expand("encoder.layer.{3}")),
        ("roberta", expand("encoder.layer.{3}")),
        ("distilbert", expand("transformer.layer.{3}")),
        ("squeezebert", expand("encoder.layers.{3}")),  # whose encoder calls `forward` past the hooks
        ("gpt2", expand("h.{2}")),
        ("gpt_neox", expand("layers.{2}")),  # which adds attention and feed-forward part to the same input
    ],
)
def test_blocks_of_text_encoders_are_found_without_a_graph(kind: str, names: list[str]) -> None:
    handler = handler_of(hugging_face(kind), tokens())
    assert handler.blocks == tuple(Block(name, width=16, stride=1, stage=0) for name in names)


def test_a_module_that_runs_several_times_is_as_many_blocks() -> None:
    path = "encoder.albert_layer_groups.0.albert_layers.0"
    blocks = handler_of(hugging_face("albert"), tokens()).blocks
    assert [block.name for block in blocks] == [path, f"{path}@1", f"{path}@2"]


@pytest.mark.parametrize(("kind", "names"), [("vit", "layers.{3}"), ("deit", "layers.{3}"), ("beit", "layers.{3}")])
def test_blocks_of_image_transformers_are_one_stage(kind: str, names: str) -> None:
    assert table(hugging_face(kind)) == [(name, 16, 1, 0) for name in expand(names)]


@pytest.mark.parametrize("kind", ["swin", "swinv2"])
def test_what_halves_the_resolution_between_blocks_begins_a_stage(kind: str) -> None:
    names = expand("encoder.layers.0.blocks.{2}", "encoder.layers.1.blocks.{2}")
    sizes = [(8, 1, 0), (8, 1, 0), (16, 1, 1), (16, 1, 1)]
    assert table(hugging_face(kind)) == [(name, *size) for name, size in zip(names, sizes, strict=True)]


def test_stages_may_have_one_block_each() -> None:
    names = ["encoder.stages.0.layers.0", "encoder.stages.1.layers.0", *expand("encoder.stages.2.layers.{2}")]
    sizes = [(8, 1, 0), (12, 1, 1), (16, 1, 2), (16, 1, 2), (20, 1, 3)]
    found = table(hugging_face("convnext"))
    assert found == [(n, *s) for n, s in zip([*names, "encoder.stages.3.layers.0"], sizes, strict=True)]


def test_a_block_of_several_residual_parts_is_one_block_and_a_decoder_another_chain() -> None:
    inputs = {"input_ids": torch.arange(2, 8)[None], "decoder_input_ids": torch.arange(2, 6)[None]}
    blocks = handler_of(hugging_face("t5"), inputs).blocks
    assert [block.name for block in blocks] == expand("encoder.block.{2}")


def test_channels_may_be_last_and_of_the_size_of_the_image() -> None:
    network = nn.Sequential(*(Skip(nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))) for _ in range(2)))
    square = torch.empty(1, 16, 16, 16, device="meta")
    assert table(network, inputs=square) == [("0", 16, 1, 0), ("1", 16, 1, 0)]


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.vgg.make_layers([8, "M", 16, "M"]),
        torchvision.models.squeezenet1_1,  # which joins branches by `cat`, as DenseNet and ShuffleNet do
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)),
    ],
)
def test_a_network_without_residual_connections_is_refused_with_what_was_looked_for(build) -> None:
    with pytest.raises(NoBlocksError, match=r"What was looked for: at least two modules.*; there is none"):
        _ = handler_of(build()).blocks


def test_one_residual_module_is_no_chain() -> None:
    with pytest.raises(NoBlocksError, match="the only one that holds such an addition is '1'"):
        _ = handler_of(nn.Sequential(nn.Conv2d(3, 4, 1), Skip(nn.Conv2d(4, 4, 1)))).blocks


def test_branches_side_by_side_are_no_chain() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(Skip(nn.Conv2d(3, 3, 1)) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([branch(x) for branch in self.branches], 1)

    with pytest.raises(NoBlocksError, match=r"are no chain: branches\.0, branches\.1"):
        _ = handler_of(Branches()).blocks
