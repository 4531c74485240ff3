"""LoRA: peft's on linear layers, a dense weight computed beside it on all others, and what begins as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from model_handler.adapters.low_rank import LowRank
from tests.model_handler.adapters.networks import LAYERS
from tests.model_handler.networks import handle


def with_numbers(module: nn.Module) -> nn.Module:
    """The module, with numbers in place of what adapters begin with."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def dense(layer: nn.Module) -> Tensor:
    """W + B A by loops over groups, for any layout of weights."""
    weight, product = layer._parameters["weight"].detach().clone(), layer.lora_B @ layer.lora_A
    if isinstance(layer, Conv1D):
        return weight + product.T
    if not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return weight + product.reshape(weight.shape)
    n_in, n_out = weight.shape[0] // layer.groups, weight.shape[1]
    for group in range(layer.groups):
        for i in range(n_in):
            for o in range(n_out):
                kernel = product[group * n_out + o].reshape(n_in, *weight.shape[2:])[i]
                weight[group * n_in + i, o] += kernel
    return weight


def by_hand(layer: nn.Module, x: Tensor) -> Tensor:
    weight, bias = dense(layer), layer.bias
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, Conv1D):
        return x @ weight + bias
    if isinstance(layer, nn.ConvTranspose2d):
        return F.conv_transpose2d(x, weight, bias, layer.stride, groups=layer.groups)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(layer.kernel_size)]
    if layer.padding_mode != "zeros":
        return function(F.pad(x, layer._reversed_padding_repeated_twice, layer.padding_mode), weight, bias)
    return function(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_begins_as_it_was_and_then_runs_on_w_plus_b_a(name: str) -> None:
    layer, shape = LAYERS[name]
    network, x = nn.Sequential(layer), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    handler = handle(network, x).add_adapters("0", rank=2)
    module = handler.get_module()
    rows, columns = module[0].lora_B.shape[0], module[0].lora_A.shape[1]
    assert rows * columns == layer.weight.numel()
    torch.testing.assert_close(module(x), network(x), rtol=0, atol=0)
    with_numbers(module)
    wanted = by_hand(module[0], x)
    torch.testing.assert_close(module(x), wanted)
    merged = handle(module, x).merge_adapters().get_module()
    assert type(merged[0]) is type(layer)
    torch.testing.assert_close(merged[0].weight, dense(module[0]))
    torch.testing.assert_close(merged(x), wanted)


@pytest.mark.parametrize("name", ["two axes", "grouped", "depthwise", "of GPT-2", "transposed and grouped"])
def test_gradients_are_those_of_the_dense_weight(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    adapted = with_numbers(handle(nn.Sequential(copy.deepcopy(layer).double())).add_adapters("0", rank=3).get_module())[
        0
    ]
    learning = [adapted.lora_A, adapted.lora_B]
    got = torch.autograd.grad(adapted(x).square().sum(), learning)
    weight, bias = dense(adapted), adapted.bias
    plain = copy.deepcopy(layer).double()
    output = torch.func.functional_call(plain, {"weight": weight, **({} if bias is None else {"bias": bias})}, (x,))
    for gradient, wanted in zip(got, torch.autograd.grad(output.square().sum(), learning), strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", ["linear", "of GPT-2", "one axis", "two axes", "pointwise"])
def test_layers_that_are_called_compute_no_whole_weight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = LAYERS[name]
    module = handle(nn.Sequential(copy.deepcopy(layer))).add_adapters("0", rank=2).get_module()
    read: list[str] = []
    changed = LowRank.changed

    def noted(adapter: LowRank, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        read.append(name)
        return changed(adapter, layer, name, tensor)

    monkeypatch.setattr(LowRank, "changed", noted)
    module(torch.ones(shape))
    assert read == []
    assert module[0].weight.shape == layer.weight.shape
    assert read == ["weight"]


@pytest.mark.parametrize(("rank", "alpha"), [(2, None), (2, 8), (3, 1)])
def test_on_linear_layers_it_is_peft_s(rank: int, alpha: float | None) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4)), torch.randn(7, 6)
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=["0", "2"])
    theirs = peft.get_peft_model(copy.deepcopy(network), config)
    ours = with_numbers(handle(network, x).add_adapters(["0", "2"], rank=rank, alpha=alpha).get_module())
    for path in ("0", "2"):
        layer, wanted = ours.get_submodule(path), theirs.base_model.model.get_submodule(path)
        wanted.lora_A.default.weight.data = layer.lora_A.data.clone()
        wanted.lora_B.default.weight.data = layer.lora_B.data.clone()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
    ours(x).sum().backward()
    theirs(x).sum().backward()
    for path in ("0", "2"):
        layer, wanted = ours.get_submodule(path), theirs.base_model.model.get_submodule(path)
        torch.testing.assert_close(layer.lora_A.grad, wanted.lora_A.default.weight.grad)
        torch.testing.assert_close(layer.lora_B.grad, wanted.lora_B.default.weight.grad)
    merged, wanted = handle(ours).merge_adapters().get_module(), theirs.merge_and_unload()
    for ours_merged, theirs_merged in zip(merged.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(ours_merged, theirs_merged)


def test_a_is_drawn_as_torch_draws_weights_and_a_seed_gives_it_again() -> None:
    network = nn.Sequential(nn.Linear(400, 30))
    state = torch.get_rng_state()
    first, again = (handle(network).add_adapters("0", rank=8, random_state=3).get_module()[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.lora_A, again.lora_A)
    assert not first.lora_B.any()
    # uniform within 1 / sqrt(n_inputs)
    assert 0.045 < first.lora_A.abs().max() <= 0.05
    assert abs(first.lora_A.std() - 0.05 / 3**0.5) < 0.002
