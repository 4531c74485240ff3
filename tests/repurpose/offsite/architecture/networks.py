"""Small networks of each family, with rows for them, and what they are compared by."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.network.states import copied_state
from repurpose.offsite.architecture import build, describe, fill

IMAGES = (2, 3, 32, 32)


def images() -> Tensor:
    return torch.rand(IMAGES, generator=torch.Generator().manual_seed(0))


def tokens() -> dict[str, Tensor]:
    ids = torch.tensor([[5, 9, 3, 7, 2], [8, 4, 6, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def rebuilt(network: nn.Module, inputs: Any, **options: Any) -> nn.Module:
    """Make a network again from the text of its description and a copy of its state."""
    sent = describe(network, inputs, **options)
    said = json.loads(json.dumps(sent.said))
    return fill(build(said, {name: each.clone() for name, each in sent.constants.items()}), copied_state(network))


def check_same(network: nn.Module, other: nn.Module, call: Callable[[nn.Module], Tensor]) -> None:
    """Assert that two networks have the same names, outputs in both modes, and gradients."""
    assert list(other.state_dict()) == list(network.state_dict())
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in network.named_parameters()]
    for training in (False, True):
        outputs = []
        for each in (network, other):
            each.train(training)
            each.zero_grad()
            torch.manual_seed(3)
            outputs.append(call(each))
            if training:
                outputs[-1].cos().sum().backward()
        assert torch.equal(outputs[0], outputs[1]), f"training={training}"
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6, msg=name)


def vision_transformer(**options: Any) -> nn.Module:
    import timm

    sizes = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 5, "patch_size": 8}
    return timm.create_model("vit_tiny_patch16_224", **{**sizes, **options}).eval()


def residual_network() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5).eval()
