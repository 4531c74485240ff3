"""Small networks of the families that adapters are tried on, each with inputs, and ways to look at them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from transformers.pytorch_utils import Conv1D

__all__ = ["FAMILIES", "LAYERS", "answer", "family", "randomise", "tiny"]

_TEXT = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "bos_token_id": None,
    "eos_token_id": None,
}
_VIT = {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 3}


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {  # each with the shape of an input
    "linear": (nn.Linear(6, 5), (3, 6)),
    "linear without bias": (nn.Linear(6, 5, bias=False), (2, 3, 6)),
    "of GPT-2": (Conv1D(5, 6), (2, 3, 6)),
    "one axis": (nn.Conv1d(4, 6, 5, stride=2, padding=1), (2, 4, 11)),
    "two axes": (nn.Conv2d(3, 8, (3, 2), stride=2, padding="valid", dilation=2), (2, 3, 9, 9)),
    "same padding": (nn.Conv2d(3, 8, 3, padding="same", bias=False), (2, 3, 6, 6)),
    "reflecting": (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), (2, 3, 6, 6)),
    "three axes": (nn.Conv3d(3, 4, 2), (2, 3, 4, 4, 4)),
    "pointwise": (nn.Conv2d(6, 8, 1), (2, 6, 3, 3)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (2, 6, 5, 5)),
    "more outputs than channels": (nn.Conv2d(3, 6, 3, groups=3), (2, 3, 5, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 3, 3)),
    "transposed and grouped": (nn.ConvTranspose2d(4, 6, 2, groups=2), (2, 4, 3, 3)),
}


def _torch_encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True), 2)


def _swin_v2_of_torchvision() -> nn.Module:
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": [4, 4], "num_classes": 3}
    return SwinTransformer([4, 4], **sizes, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ViT": (lambda: timm.create_model("vit_tiny_patch16_224", **_VIT), "image"),
    "ViT of torchvision": (lambda: VisionTransformer(32, 16, 2, 2, 16, 24, num_classes=3), "image"),
    "ViT of transformers": (
        lambda: transformers.ViTModel(transformers.ViTConfig(image_size=32, **_TEXT), add_pooling_layer=False),
        "image",
    ),
    "BEiT": (lambda: timm.create_model("beit_base_patch16_224", **_VIT), "image"),
    "Swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(1, 1),
            num_heads=(1, 2),
            num_classes=3,
        ),
        "image",
    ),
    "Swin-V2": (
        lambda: timm.create_model(
            "swinv2_tiny_window8_256",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(1, 1),
            num_heads=(1, 2),
            num_classes=3,
        ),
        "image",
    ),
    "Swin-V2 of torchvision": (_swin_v2_of_torchvision, "image"),
    "ConvNeXt": (
        lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), num_classes=3),
        "image",
    ),
    "ResNet": (lambda: timm.create_model("resnet10t", channels=(4, 4, 8, 8), stem_width=4, num_classes=3), "image"),
    "BERT": (
        lambda: transformers.BertModel(transformers.BertConfig(**_TEXT), add_pooling_layer=False),
        "masked text",
    ),
    "ALBERT": (
        lambda: transformers.AlbertModel(transformers.AlbertConfig(embedding_size=8, **_TEXT), add_pooling_layer=False),
        "text",
    ),
    "T5": (
        lambda: transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
        ),
        "text",
    ),
    "GPT-2": (
        lambda: transformers.GPT2Model(
            transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
        ),
        "text",
    ),
    "torch's encoder": (_torch_encoder, "sequence"),
}


@cache
def family(name: str) -> tuple[nn.Module, Any]:
    """A network of a family, in which no layer is without effect, and inputs for it; tests leave both as they are."""
    make, kind = FAMILIES[name]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
        for parameter in network.parameters():  # norms and heads that begin as zero would hide what is before them
            nn.init.normal_(parameter, float(parameter.ndim == 1), 0.2)
    if kind == "image":
        return network, torch.randn(2, 3, 32, 32, generator=generator)
    if kind == "sequence":
        return network, torch.randn(2, 5, 16, generator=generator)
    tokens = torch.randint(30, (2, 6), generator=generator)
    mask = torch.ones_like(tokens)
    mask[1, 4:] = 0
    return network, {"input_ids": tokens, "attention_mask": mask} if kind == "masked text" else {"input_ids": tokens}


def tiny() -> nn.Module:
    """Two linear layers, a convolution and a normalisation."""
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 6), nn.Linear(6, 2))


def answer(network: nn.Module, inputs: Any) -> Tensor:
    """What a network returns without gradients: its first tensor."""
    with torch.no_grad():
        output = network(**inputs) if isinstance(inputs, dict) else network(inputs)
    return output if isinstance(output, Tensor) else output[0]


def randomise(module: nn.Module, scale: float = 0.1) -> nn.Module:
    """The module, with noise added to all that learns in it."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module
