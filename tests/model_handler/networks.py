"""Small networks that the tests of this folder share, each with one peculiarity, and independent ways to look in."""

import copy
import io
from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler import Features, ModelHandler

__all__ = [
    "TREATMENTS",
    "Attention",
    "Block",
    "Branching",
    "Convolutional",
    "DataDependent",
    "InPlace",
    "Regularised",
    "Residual",
    "Shared",
    "TwoInputs",
    "assert_rows",
    "handle",
    "hooked",
    "images",
    "output_of",
    "saved_and_loaded",
    "snapshot",
    "train_one_epoch",
]


def assert_rows(features: Features, name: str, wanted: Tensor) -> None:
    """Features are what a layer returned, flattened, but for rounding."""
    np.testing.assert_allclose(features.values[name], wanted.detach().flatten(1).float(), rtol=1e-4, atol=1e-5)


def images(n_rows: int = 5, channels: int = 3, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, channels, height, width, generator=torch.Generator().manual_seed(seed))


class Convolutional(nn.Module):
    """Modules whose names end like the numbers a tracer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.conv_2, self.conv_3 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv_3(self.conv_2(self.conv_1(x))).flatten(1))


class Block(nn.Module):
    """Convolution, BatchNorm and an in-place ReLU over a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y += x
        return self.relu(y)


class Residual(nn.Module):
    """A ResNet of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(4), Block(4))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Branching(nn.Module):
    """A trunk and a side branch with an in-place ReLU of its own; the calls of its layers are noted in `calls`."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.side, self.side_relu = nn.Linear(4, 4), nn.ReLU(inplace=True)
        for name, module in self.named_children():
            module.register_forward_hook(lambda module, arguments, output, name=name: calls.append(name))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        side = self.side_relu(self.side(x))
        return self.third(self.second(x)), side


class DataDependent(nn.Module):
    """Its path depends on the numbers: it cannot be traced. `block` runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if x.sum() > 1e9:
            return x
        return self.head(self.block(self.block(x)))


class Shared(nn.Module):
    """One ReLU under two names, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
        self.alias = self.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.alias(self.relu(self.b(self.relu(self.a(x)))) - 0.1)


class Attention(nn.Module):
    """Layers that return more than one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.attention(x, x, x)
        x, (_, _) = self.lstm(x)
        return x[:, -1]


class TwoInputs(nn.Module):
    """Two inputs and a defaulted one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | None = None) -> Tensor:
        x = self.bn(self.left(a) + F.relu(self.right(b)))
        return x if scale is None else x * scale


class Regularised(nn.Module):
    """A functional dropout inside a block: tracing makes the block a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc = DropBlock(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(x))


class DropBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


class InPlace(nn.Module):
    """An operation that writes where nobody uses its result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.clamp_(min=0)
        return self.third(self.second(x))


def hooked(network: nn.Module, inputs: tuple, names: list[str], kwargs: dict | None = None) -> dict[str, Tensor]:
    """The outputs of a copy of `network` in eval mode at modules, as they were when returned: the last call's."""
    network = copy.deepcopy(network).eval()
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for name in names:

            def keep(module, arguments, output, name=name):
                found[name] = output.clone() if isinstance(output, Tensor) else output

            hooks.enter_context(network.get_submodule(name).register_forward_hook(keep))
        network(*(part.clone() for part in inputs), **(kwargs or {}))
    return found


def snapshot(network: nn.Module) -> dict:
    """All that must not change: weights and buffers bit for bit, their identity, modes, hooks and attributes."""
    modules = dict(network.named_modules(remove_duplicate=False))
    return {
        "state": {key: tensor.clone().numpy().tobytes() for key, tensor in network.state_dict().items()},
        "tensors": {
            f"{name}.{key}": value.clone().numpy().tobytes()
            for name, module in modules.items()
            for key, value in vars(module).items()
            if isinstance(value, Tensor)
        },
        "identity": [id(p) for p in network.parameters()] + [id(b) for b in network.buffers()],
        "learns": {name: p.requires_grad for name, p in network.named_parameters()},
        "grads": [p.grad is None for p in network.parameters()],
        "modes": {name: module.training for name, module in modules.items()},
        "modules": {name: id(module) for name, module in modules.items()},
        "hooks": {name: _hooks(module) for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "devices": [str(tensor.device) for tensor in network.state_dict().values()],
    }


def _hooks(module: nn.Module) -> dict[str, list]:
    return {key: list(value) for key, value in vars(module).items() if key.endswith("_hooks") and value is not None}


def handle(network, example_inputs=None, **options):
    """A handler that computes on the CPU, whatever the machine has."""
    return ModelHandler(network, example_inputs, device="cpu", **options)


def output_of(handler: ModelHandler, *inputs: Tensor) -> Tensor:
    """What the network that a handler stands for returns in eval mode."""
    with torch.no_grad():
        return handler.get_module().eval()(*(part.clone() for part in inputs))


def saved_and_loaded(network: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def with_loaded_state(network: nn.Module) -> nn.Module:
    network.load_state_dict(copy.deepcopy(network.state_dict()))
    return network


def train_one_epoch(network: nn.Module, *inputs: Tensor) -> set[str]:
    """Two steps with momentum and weight decay on all parameters, in training mode; the keys that changed."""
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        network(*inputs).square().sum().backward()
        optimiser.step()
    return {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}


TREATMENTS = [lambda network: network, copy.deepcopy, saved_and_loaded, with_loaded_state]
