"""Networks of many families go round: described, written as text, built again, filled, they are what they were."""

import copy
import json
import pickle
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_handler import CorruptFileError, ModelError, ModelHandler, load_source
from repurpose.offsite.architecture import build, describe, fill
from tests.repurpose.offsite.architecture.networks import (
    check_same,
    images,
    rebuilt,
    residual_network,
    tokens,
    vision_transformer,
)


def _small_torchvision(name: str) -> nn.Module:
    from torchvision.models import convnext, efficientnet, mobilenetv3, swin_transformer
    from torchvision.models import vision_transformer as vit

    if name == "efficientnet":
        blocks = [efficientnet.MBConvConfig(4, 3, 2, 8, 8, 2, 1.0, 1.0)]
        return efficientnet.EfficientNet(blocks, 0.1, 0.5, num_classes=5, last_channel=16)
    if name == "convnext":
        return convnext.ConvNeXt([convnext.CNBlockConfig(8, 16, 2), convnext.CNBlockConfig(16, None, 1)], 0.5)
    if name == "mobilenet_v3":
        blocks = [
            mobilenetv3.InvertedResidualConfig(8, 3, 16, 8, True, activation, 1, 1, 1.0) for activation in ("HS", "RE")
        ]
        return mobilenetv3.MobileNetV3(blocks, 16, num_classes=5)
    if name == "swin":
        return swin_transformer.SwinTransformer([4, 4], 16, [2, 1], [2, 2], [2, 2], 0.0, 0.1, 0.2, num_classes=5)
    return vit.VisionTransformer(32, 8, 2, 2, 16, 24, dropout=0.1, attention_dropout=0.1, num_classes=5)


@pytest.mark.parametrize("name", ["efficientnet", "convnext", "mobilenet_v3", "swin", "vit"])
def test_small_networks_of_torchvision_go_round(name: str) -> None:
    network = _small_torchvision(name).eval()
    check_same(network, rebuilt(network, images()), lambda each: each(images()))


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet", "test_vit2"])
def test_small_networks_of_timm_go_round(name: str) -> None:
    import timm

    network = timm.create_model(name, num_classes=5, drop_path_rate=0.3).eval()
    check_same(network, rebuilt(network, images()), lambda each: each(images()))


def test_dropout_inside_attention_follows_the_mode_of_each_block() -> None:
    network = vision_transformer(attn_drop_rate=0.3, proj_drop_rate=0.2, drop_path_rate=0.2)
    other = rebuilt(network, images())
    check_same(network, other, lambda each: each(images()))
    for each in (network, other):  # as where a frozen middle is held in evaluation
        each.train()
        each.get_submodule("blocks.1").eval()
    torch.manual_seed(1)
    expected = network(images())
    torch.manual_seed(1)
    assert torch.equal(other(images()), expected)


def test_batchnorm_gathers_the_same_statistics() -> None:
    network = residual_network()
    other = rebuilt(network, images())
    check_same(network, other, lambda each: each(images()))
    for name, tensor in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert other.get_buffer("bn1.num_batches_tracked") == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", [vision_transformer, residual_network])
def test_networks_of_other_dtypes_go_round(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    network, X = make().to(dtype), images().to(dtype)
    other = rebuilt(network, images())
    assert {each.dtype for each in other.parameters()} == {dtype}
    assert torch.equal(other(X), network(X))


def test_networks_are_described_in_two_threads_and_calls_of_modules_stay_what_they_were() -> None:
    call, network, switching = nn.Module.__call__, vision_transformer(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as threads:
            sent = list(threads.map(lambda _: describe(network, images()), range(2)))
    finally:
        sys.setswitchinterval(switching)
    assert nn.Module.__call__ is call
    assert sent[0].said == sent[1].said


def test_efficientnet_lite0_goes_round() -> None:
    network = load_source("efficientnet-lite0").network
    other = rebuilt(network, images())
    assert torch.equal(other(images()), network(images()))
    assert list(other.state_dict()) == list(network.state_dict())
    convolutions = [path for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    assert [path for path, layer in other.named_modules() if isinstance(layer, nn.Conv2d)] == convolutions


def test_a_rebuilt_network_has_the_layers_and_blocks_of_the_original() -> None:
    network = vision_transformer()
    one, other = ModelHandler(network, images()), ModelHandler(rebuilt(network, images()), images())
    assert (
        [each.name for each in other.blocks]
        == [each.name for each in one.blocks]
        == ["blocks.0", "blocks.1", "blocks.2"]
    )
    leaves = [path for path, module in network.named_modules() if path and not list(module.children())]
    assert [name for name in one.layer_names if name in leaves] == [n for n in other.layer_names if n in leaves]
    layers = ["blocks.1.mlp.fc1", "norm"]
    features = [each.get_layer_output(images(), layers)[0] for each in (one, other)]
    for layer in layers:
        assert (features[0][layer] == features[1][layer]).all()


def test_a_linear_layer_of_a_rebuilt_network_can_be_exchanged() -> None:
    other = rebuilt(vision_transformer(), images())
    other.set_submodule("head", nn.Linear(16, 9))
    assert other(images()).shape == (2, 9)


def test_a_rebuilt_network_is_copied_and_pickled() -> None:
    other = rebuilt(vision_transformer(), images())
    expected = other(images())
    for each in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(each(images()), expected)
        assert not set(map(id, each.parameters())) & set(map(id, other.parameters()))


def test_inputs_keep_their_names() -> None:
    class OfTwo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, a: Tensor, b: Tensor, scale: float = 2.0) -> Tensor:
            return self.left(a) + scale * self.right(b)

    network, rows = OfTwo(), {"b": torch.rand(3, 5), "a": torch.rand(3, 4)}
    expected = network(**rows)
    assert torch.equal(rebuilt(network, rows)(**rows), expected)
    other = rebuilt(network, (rows["a"], rows["b"]))
    assert torch.equal(other(rows["a"], rows["b"]), expected)
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        other(rows["a"])


def test_frozen_weights_and_modes_travel() -> None:
    network = residual_network().train()
    network.layer1.eval().requires_grad_(False)
    other = rebuilt(network, images())
    for (path, module), each in zip(network.named_modules(), other.modules(), strict=True):
        assert module.training == each.training, path
    assert [each.requires_grad for each in other.parameters()] == [each.requires_grad for each in network.parameters()]


def test_what_is_sent_is_json_without_numbers_of_the_rows() -> None:
    rows = torch.full((2, 4), 0.123456)
    sent = describe(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), rows)
    assert json.loads(json.dumps(sent.said, allow_nan=False)) == sent.said
    assert "0.123" not in json.dumps(sent.said)


def test_a_network_that_is_given_is_checked_by_names_and_shapes() -> None:
    network = residual_network()
    sent = describe(network, images(), given=True)
    assert sorted(sent.said) == ["kind", "shapes"]
    assert build(sent.said, {}, network) is network
    with pytest.raises(ValueError, match="give its network as source_model="):
        build(sent.said, {})
    other = residual_network()
    other.fc = nn.Linear(512, 7)
    with pytest.raises(ValueError, match=r"'fc.weight' is \[7, 512\], where \[5, 512\] was expected"):
        build(sent.said, {}, other)


def test_a_module_is_not_given_where_the_network_is_data() -> None:
    sent = describe(nn.Linear(4, 3), torch.rand(2, 4))
    with pytest.raises(ValueError, match="leave out source_model"):
        build(sent.said, sent.constants, nn.Linear(4, 3))


@pytest.mark.parametrize("said", [{}, {"kind": "pickle"}, None, [], {"kind": ["graph"]}])
def test_an_unknown_kind_is_refused(said: Any) -> None:
    with pytest.raises(CorruptFileError, match="unknown kind"):
        build(said, {})


class _ByTheData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.inner = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if self.gate(x).mean() > 0 else x


class _DrawnElsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random() if self.training else x


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Linear(4, 4), _DrawnElsewhere()), r"outputs in training are others, .*\(random, numpy\)"),
        (nn.Sequential(nn.Linear(4, 4), _ByTheData()), r"'1', a _ByTheData, cannot be followed"),
        (nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 1)), "'1'"),
    ],
)
def test_what_cannot_be_sent_is_named_with_the_way_out(network: nn.Module, named: str) -> None:
    with pytest.raises(ModelError, match=named) as told:
        describe(network, torch.rand(2, 4))
    assert 'architecture="given"' in str(told.value)


def test_a_hook_is_code_and_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 3))
    network[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="'0' has a hook"):
        describe(network, torch.rand(2, 4))


def test_describing_leaves_the_network_as_it_was() -> None:
    network = residual_network().train()
    before = copy.deepcopy(network.state_dict())
    generator = torch.get_rng_state()
    describe(network, images())
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_weights_that_are_tied_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.out = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.out.weight = self.embedding.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.embedding(ids))

    other = rebuilt(Tied(), tokens()["input_ids"])
    assert other.get_parameter("out.weight") is other.get_parameter("embedding.weight")
    assert fill(other, {**other.state_dict()}).get_parameter("out.weight") is other.get_parameter("embedding.weight")


def test_a_module_under_two_paths_stays_one() -> None:
    shared = nn.Linear(4, 4)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    other = rebuilt(network, torch.rand(2, 4))
    assert other.get_submodule("0") is other.get_submodule("2")
    assert list(other.state_dict()) == list(network.state_dict())


def test_a_part_that_two_others_share_goes_round() -> None:
    class Scaled(nn.Module):
        def __init__(self, *shared: nn.Module) -> None:
            super().__init__()
            self.inner = shared[0] if shared else nn.Linear(4, 4)
            self.scale = nn.Parameter(torch.full((4,), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.scale

    shared = Scaled()
    network = nn.Sequential(Scaled(shared), nn.ReLU(), Scaled(shared))
    rows = torch.rand(3, 4)
    other = rebuilt(network, rows)
    assert other.get_submodule("0.inner") is other.get_submodule("2.inner")
    check_same(network, other, lambda each: each(rows))


def test_an_edited_network_goes_round() -> None:
    network = ModelHandler(vision_transformer(), images()).drop_layer_top().add_layer_top([("top", nn.Linear(16, 4))])
    edited = network.get_module()
    check_same(edited, rebuilt(edited, images()), lambda each: each(images()))


def test_what_is_computed_without_gradients_stays_so() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.first(x)
            return self.last(x)

    other = rebuilt(Stopped(), torch.rand(2, 4))
    other(torch.rand(2, 4)).sum().backward()
    assert other.get_parameter("first.weight").grad is None
    assert other.get_parameter("last.weight").grad is not None


def test_words_through_a_recurrent_network_and_attention_go_round() -> None:
    class OfWords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.read = nn.Embedding(10, 8), nn.LSTM(8, 4, batch_first=True, bidirectional=True)
            self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 12, 0.2, batch_first=True) for _ in range(2)])

        def forward(self, ids: Tensor) -> Tensor:
            x, (last, _) = self.read(self.words(ids))
            for layer in self.layers:
                x = layer(x)
            return x.mean(1) + last[0].repeat(1, 2)

    network, ids = OfWords(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    check_same(network, rebuilt(network, ids), lambda each: each(ids))
