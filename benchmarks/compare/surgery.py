"""Surgery: a dozen edits, one after another and taken back, with names and outputs of what comes of them."""

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.compare.networks import drawn
from benchmarks.compare.results import Results
from model_handler import ModelHandler

__all__ = ["collect"]

Edit = Callable[[ModelHandler], object]

_EDITS: dict[str, Edit] = {
    "drop the top": lambda handler: handler.drop_layer_top(1),
    "truncate": lambda handler: handler.truncate("layer2"),
    "add at the top": lambda handler: handler.add_layer_top([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(7)]),
    "insert after": lambda handler: handler.insert_after("layer1.0.conv1", [("scaled", nn.Conv2d(64, 64, 1))]),
    "insert before": lambda handler: handler.insert_before("layer1.1.bn2", nn.Dropout(0.5)),
    "replace": lambda handler: handler.replace("layer1.0.bn1", nn.GroupNorm(4, 64)),
    "rename": lambda handler: handler.rename("layer1.1.conv2", "last"),
    "randomize": lambda handler: handler.randomize(["layer2.0"], random_state=3),
    "freeze": lambda handler: handler.freeze(up_to="layer1"),
    "freeze by type": lambda handler: handler.freeze(types="batchnorm"),
    "unfreeze": lambda handler: handler.unfreeze("layer1.0"),
    "drop the bottom": lambda handler: handler.drop_layer_bottom(1),
    "add at the bottom": lambda handler: handler.add_layer_bottom(
        [nn.Conv2d(3, 64, 3, stride=2)], example_inputs=torch.zeros(2, 3, 32, 32)
    ),
}


_SHAPES = {"drop the bottom": (3, 64, 16, 16)}
"""What the network takes after an edit, where that is not images any more."""


def collect(results: Results, folder: Path) -> None:
    """Make all edits, looking after each one, then go back; the picture of all of them too."""
    torch.manual_seed(0)
    network, images = drawn(torchvision.models.resnet18(weights=None).eval()), torch.randn(3, 3, 32, 32)
    handler = ModelHandler(network, images, device="cpu", verbose=False)
    for name, edit in _EDITS.items():
        torch.manual_seed(1)
        edit(handler)
        _look(results.under(f"after {name}"), handler, name)
    results.add("drawing", handler.visualize_net(depth=None).source)
    for name in reversed(["nothing", *_EDITS][:-1]):
        _look(results.under(f"back at {name}"), handler.undo(), name)
    fixed, random = [handler.get_layer_parameters(layer) for layer in ("layer1", "fc")]
    torch.manual_seed(2)
    _run(results.under("fixed and random parameters"), handler.get_module(fixed, random), images)


def _look(results: Results, handler: ModelHandler, last_edit: str) -> None:
    results.add("edits", "\n".join(handler.edits))
    results.add("layers", "\n".join(handler.layer_names))
    results.add("summary", str(handler.summary(depth=2)))
    inputs = torch.randn(_SHAPES.get(last_edit, (3, 3, 32, 32)), generator=torch.Generator().manual_seed(4))
    _run(results, handler.get_module(), inputs)


def _run(results: Results, module: nn.Module, inputs: Tensor) -> None:
    """Outputs in both modes, what learns, and what one step of training does to it."""
    torch.manual_seed(5)
    with torch.no_grad():
        results.add("output", module.eval()(inputs).numpy())
    output = module.train()(inputs)
    results.add("output in training", output.detach().numpy())
    output.square().mean().backward()
    torch.optim.SGD([each for each in module.parameters() if each.requires_grad], lr=0.01).step()
    results.add("learning", "\n".join(name for name, each in module.named_parameters() if each.requires_grad))
    state = module.state_dict()
    results.add("keys", "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()))
    results.add("sums after a step", [float(tensor.double().sum()) for tensor in state.values()])
