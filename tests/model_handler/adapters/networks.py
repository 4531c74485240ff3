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

__all__ = ["FAMILIES", "answer", "family", "randomise", "tiny"]

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
