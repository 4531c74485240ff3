"""A fold computes what the convolution and the BatchNorm behind it do, and follows their weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import prune

from model_handler.extraction.batchnorm_fusion import BatchNormFusion
from model_handler.graph.tracing import trace

CONVOLUTIONS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), nn.BatchNorm1d, (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), nn.BatchNorm2d, (2, 4, 9, 9)),
    "conv2d in groups, reflecting": (
        lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect", bias=False),
        nn.BatchNorm2d,
        (2, 4, 9, 9),
    ),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2), nn.BatchNorm3d, (2, 4, 5, 5, 5)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d, (2, 4, 9)),
    "conv_transpose2d in groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False),
        nn.BatchNorm2d,
        (2, 4, 5, 5),
    ),
    "linear": (lambda: nn.Linear(4, 6), nn.BatchNorm1d, (3, 4)),
    "several devices": (lambda: nn.Conv2d(4, 6, 1), nn.SyncBatchNorm, (2, 4, 3, 3)),
    "without weights": (lambda: nn.Conv2d(4, 6, 1), lambda n: nn.BatchNorm2d(n, affine=False), (2, 4, 3, 3)),
}


def shaken(norm):
    """Statistics and weights that are not those of the beginning."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.1)
        if norm.weight is not None:
            norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator))
            norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator))
    return norm


def in_float64(conv, norm, x):
    """Convolution and BatchNorm by the formula, with numbers of twice the length."""
    arguments = (
        {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups} if hasattr(conv, "stride") else {}
    )
    bias = None if conv.bias is None else conv.bias.double()
    x, weight = x.double(), conv.weight.double()
    if isinstance(conv, nn.Linear):
        y = F.linear(x, weight, bias)
    elif "Transpose" in type(conv).__name__:
        transposed = F.conv_transpose1d if x.ndim == 3 else F.conv_transpose2d
        y = transposed(x, weight, bias, **arguments)
    else:
        if any(conv.padding):
            mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
            x = F.pad(x, [size for size in reversed(conv.padding) for _ in (0, 1)], mode=mode)
        y = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim](x, weight, bias, **arguments)
    shape = (1, -1, *[1] * (y.ndim - 2))
    mean, deviation = norm.running_mean.double().view(shape), (norm.running_var.double() + norm.eps).sqrt().view(shape)
    y = (y - mean) / deviation
    return y if norm.weight is None else y * norm.weight.double().view(shape) + norm.bias.double().view(shape)


def program_of(network):
    """The network as a program that nothing is folded in yet."""
    network.eval()
    graph = trace(network, ("input",)).graph
    return fx.GraphModule(dict(network.named_modules()), graph)


def folded(network, fusion=None):
    program, fusion = program_of(network), fusion or BatchNormFusion()
    folds = fusion.apply(program)
    fusion.refresh(folds)
    return program, folds


def close(got, wanted, tolerance=1e-6):
    return (got.double() - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_fold_is_the_convolution_and_the_normalisation(case):
    torch.manual_seed(0)
    make, norm, shape = CONVOLUTIONS[case]
    conv, norm, x = make(), shaken(norm(6)), torch.randn(shape)
    program, folds = folded(nn.Sequential(conv, norm))
    with torch.no_grad():
        assert len(folds) == 1
        assert close(program(x), in_float64(conv, norm, x))
    assert [node.op for node in program.graph.nodes] == ["placeholder", "call_module", "output"]


def test_folded_weights_are_computed_in_float64_and_rounded_once():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(30, 70, 5), shaken(nn.BatchNorm2d(70))  # more than one tile
    _, (fold,) = folded(nn.Sequential(conv, norm))
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    wanted = (conv.weight.double() * scale.view(-1, 1, 1, 1)).float()
    assert (fold.module.weight - wanted).abs().max() <= 2**-24 * wanted.abs().max()
    assert (fold.module.weight != wanted).float().mean() < 1e-4  # a rounding apart where the square roots differ
    shift = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    assert torch.equal(fold.module.bias, shift.float())


def test_folding_leaves_the_network_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), shaken(nn.BatchNorm2d(4)), nn.ReLU())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modules = {name: sorted(vars(module)) for name, module in network.named_modules()}
    folded(network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert {name: sorted(vars(module)) for name, module in network.named_modules()} == modules
    assert not network[2].inplace


def test_a_module_called_with_two_normalisations_has_two_folds():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 4, 1), shaken(nn.BatchNorm2d(4)), nn.BatchNorm2d(4)

        def forward(self, input):
            return self.a(self.conv(input)) + self.b(self.conv(input))

    network, x = Twice(), torch.randn(2, 3, 4, 4)
    program, folds = folded(network)
    assert len(folds) == 2
    with torch.no_grad():
        wanted = in_float64(network.conv, network.a, x) + in_float64(network.conv, network.b, x)
        assert close(program(x), wanted)


def test_programs_of_one_network_share_their_folds():
    network, fusion = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), BatchNormFusion()
    (_, (first,)), (_, (second,)) = folded(network, fusion), folded(network, fusion)
    assert first is second


class Scaled(nn.Conv2d):
    def forward(self, input):
        return self._conv_forward(input, self.weight * 2, self.bias)


class Doubled(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) * 2


class Padded(nn.Conv2d):
    """Padding of its own in front, as in the networks that come from TensorFlow."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, input):
        return F.conv2d(self.pad(input), self.weight, self.bias)


class Reading(nn.Module):
    """Its convolution is read by more than the normalisation."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, input):
        y = self.conv(input)
        return self.bn(y) + y


def with_hook(module):
    module.register_forward_hook(lambda module, arguments, output: output + 1)
    return module


UNFOLDABLE = {
    "read by others": Reading,
    "hooks on the convolution": lambda: nn.Sequential(with_hook(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
    "hooks on the normalisation": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), with_hook(nn.BatchNorm2d(4))),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
    "spectral norm of old": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
    "pruned weights": lambda: nn.Sequential(
        prune.random_unstructured(nn.Conv2d(3, 4, 1), "weight", 0.5), nn.BatchNorm2d(4)
    ),
    "other weights than its own": lambda: nn.Sequential(Scaled(3, 4, 1), nn.BatchNorm2d(4)),
    "more than a convolution": lambda: nn.Sequential(Doubled(3, 4, 1), nn.BatchNorm2d(4)),
    "no running statistics": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    "a subclass of BatchNorm": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), type("Mine", (nn.BatchNorm2d,), {})(4)),
    "half precision": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).bfloat16(),
    "something between": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.BatchNorm2d(4)),
}


@pytest.mark.parametrize("case", UNFOLDABLE)
def test_what_is_more_than_a_convolution_and_its_normalisation_stays(case):
    network = UNFOLDABLE[case]()
    program, folds = folded(network)
    assert not folds
    with torch.no_grad():
        x = torch.randn(2, 3, 4, 4).to(next(network.parameters()).dtype)
        assert torch.equal(program(x), network(x))


class Turned(nn.Linear):
    """Multiplies by its weights from the right, untransposed: rows of them are no channels."""

    def forward(self, input):
        return torch.matmul(input, self.weight)


def test_a_product_that_is_no_convolution_stays():
    torch.manual_seed(0)
    network, x = nn.Sequential(Turned(4, 4, bias=False), shaken(nn.BatchNorm1d(4))), torch.randn(3, 4)
    program, folds = folded(network)
    assert not folds
    with torch.no_grad():
        assert torch.equal(program(x), network(x))


def test_a_convolution_that_pads_in_its_own_forward_is_folded():
    conv, norm, x = Padded(3, 4, 2), shaken(nn.BatchNorm2d(4)), torch.randn(2, 3, 5, 5)
    program, folds = folded(nn.Sequential(conv, norm))
    assert len(folds) == 1
    plain = nn.Conv2d(3, 4, 2)
    plain.load_state_dict(conv.state_dict())
    with torch.no_grad():
        assert close(program(x), in_float64(plain, norm, F.pad(x, (0, 1, 0, 1))))


def test_a_normalisation_frozen_by_torchvision_is_folded():
    from torchvision.ops import FrozenBatchNorm2d

    conv, norm, x = nn.Conv2d(3, 4, 2), shaken(FrozenBatchNorm2d(4)), torch.randn(2, 3, 5, 5)
    program, folds = folded(nn.Sequential(conv, norm))
    assert len(folds) == 1
    with torch.no_grad():
        assert close(program(x), in_float64(conv, norm, x))


def test_a_normalisation_of_timm_keeps_its_activation():
    norm_act = pytest.importorskip("timm.layers.norm_act")
    conv, norm, x = nn.Conv2d(3, 4, 2), shaken(norm_act.BatchNormAct2d(4)), torch.randn(2, 3, 5, 5)
    program, folds = folded(nn.Sequential(conv, norm))
    assert len(folds) == 1
    with torch.no_grad():
        assert close(program(x), in_float64(conv, norm, x).relu())
        assert close(nn.Sequential(conv, norm).eval()(x), in_float64(conv, norm, x).relu())  # it still runs


@pytest.mark.parametrize("change", ["step", "data", "statistics"])
def test_a_fold_follows_training_and_edits_that_leave_no_trace(change):
    torch.manual_seed(0)
    conv, norm, x = nn.Conv2d(3, 4, 2), shaken(nn.BatchNorm2d(4)), torch.randn(2, 3, 5, 5)
    fusion = BatchNormFusion()
    program, folds = folded(nn.Sequential(conv, norm), fusion)
    weight, revision = folds[0].module.weight, fusion.revision
    if change == "step":
        nn.Sequential(conv, norm)(x).sum().backward()
        torch.optim.SGD([*conv.parameters(), *norm.parameters()], lr=0.1).step()
    elif change == "data":
        conv.weight.data.neg_()
    else:
        norm.running_var.mul_(2)
    fusion.expire()
    fusion.refresh(folds)
    with torch.no_grad():
        assert close(program(x), in_float64(conv, norm, x))
    assert folds[0].module.weight is weight
    assert (fusion.revision > revision) == (change != "data")


def test_the_weights_of_a_fold_can_have_another_dtype():
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
    _, (fold,) = folded(network, BatchNormFusion(torch.bfloat16))
    assert fold.module.weight.dtype == fold.module.bias.dtype == torch.bfloat16
    assert network[0].weight.dtype == torch.float32


@pytest.mark.parametrize("activation", [nn.ReLU(), F.relu])
def test_an_activation_behind_a_fold_writes_in_place_and_the_networks_own_does_not(activation):
    class Activated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), activation

        def forward(self, input):
            return self.act(self.bn(self.conv(input)))

    network, x = Activated(), torch.randn(2, 3, 5, 5)
    program, _ = folded(network)
    last = next(node for node in reversed(program.graph.nodes) if node.op.startswith("call"))
    assert (
        last.kwargs == {"inplace": True} if last.op == "call_function" else program.get_submodule(last.target).inplace
    )
    assert not getattr(activation, "inplace", False)
    with torch.no_grad():
        assert close(program(x), in_float64(network.conv, network.bn, x).relu())
