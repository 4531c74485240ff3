import pytest
import timm
import torchvision
from torch import nn

from repurpose.training.plan.depths import depths_from_top


def test_plain_layers_count_one_by_one_with_normalisation_beside_its_layer() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))
    depths = depths_from_top(module, {"4.weight", "4.bias"})
    assert depths == {
        **dict.fromkeys(["0.weight", "0.bias", "1.weight", "1.bias"], 2),
        **dict.fromkeys(["3.weight", "3.bias"], 1),
        **dict.fromkeys(["4.weight", "4.bias"], 0),
    }


def test_a_network_inside_another_is_looked_into() -> None:
    module = nn.ModuleDict({"body": torchvision.models.resnet18(weights=None), "head": nn.Linear(1000, 2)})
    depths = depths_from_top(module, {"head.weight", "head.bias"})
    assert depths["body.fc.weight"] == 1
    assert depths["body.layer4.1.conv1.weight"] == 2
    assert max(depths.values()) == 10


@pytest.mark.parametrize(
    ("name", "n_blocks", "top"),
    [("vit_tiny_patch16_224", 12, "blocks.11."), ("mobilenetv2_035", 18, "blocks.6.0.")],
)
def test_blocks_of_timm_are_found(name: str, n_blocks: int, top: str) -> None:
    """MobileNet's first block is of a kind that occurs once, and so counts as its two layers."""
    module = timm.create_model(name, num_classes=0)
    depths = depths_from_top(module, ())
    blocks = {depth for parameter, depth in depths.items() if parameter.startswith("blocks.")}
    assert len(blocks) == n_blocks
    assert {depths[parameter] for parameter in depths if parameter.startswith(top)} == {min(blocks)}
    assert depths.keys() == dict(module.named_parameters()).keys()


def test_blocks_that_are_known_count_one_each_whatever_their_class() -> None:
    """MobileNet's first block is of a kind that occurs once."""
    module = timm.create_model("mobilenetv2_035", num_classes=0)
    sizes = (1, 2, 3, 4, 3, 3, 1)
    names = [f"blocks.{stage}.{number}" for stage, size in enumerate(sizes) for number in range(size)]
    depths = depths_from_top(module, (), names)
    top = depths["blocks.6.0.conv_pw.weight"]
    for below, name in enumerate(reversed(names)):
        assert {depth for key, depth in depths.items() if key.startswith(f"{name}.")} == {top + below}


def test_a_block_that_runs_again_is_the_same_block() -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    depths = depths_from_top(module, {"1.weight", "1.bias"}, ["0", "0@1"])
    assert {depths[f"0.{layer}.{key}"] for layer in (0, 1) for key in ("weight", "bias")} == {1}
