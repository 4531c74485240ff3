"""Small networks of many families, random weights; what is known of their blocks is written beside each use."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from model_handler import ModelHandler

__all__ = ["IMAGE", "Skip", "convnext", "expand", "handler_of", "hugging_face", "swin", "swin_v2", "tokens", "vit"]

IMAGE = torch.empty(1, 3, 64, 64, device="meta")
_TEXT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
_TEXT |= {"vocab_size": 50, "max_position_embeddings": 20}
_VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
_VIT |= {"image_size": 64, "patch_size": 32}
_SWIN = {"image_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2]}
_CONFIGS: dict[str, dict[str, object]] = {
    "bert": _TEXT,
    "albert": {**_TEXT, "embedding_size": 8},
    "distilbert": {"n_layers": 3, "n_heads": 2, "dim": 16, "hidden_dim": 32, "vocab_size": 50},
    "roberta": _TEXT,
    "squeezebert": {**_TEXT, "embedding_size": 16},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": {**_TEXT, "num_hidden_layers": 2},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 50},
    "vit": _VIT,
    "deit": _VIT,
    "beit": _VIT,
    "swin": _SWIN,
    "swinv2": _SWIN,
    "convnext": {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [2, 2]},
}


class Skip(nn.Module):
    """Adds to its input what a layer computes of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def vit() -> nn.Module:
    return VisionTransformer(image_size=64, patch_size=32, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32)


def swin() -> nn.Module:
    return SwinTransformer(patch_size=[4, 4], embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4])


def swin_v2() -> nn.Module:
    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
    return SwinTransformer(**sizes, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 12, 2), CNBlockConfig(12, None, 1)])


def handler_of(network: nn.Module, inputs: object = IMAGE) -> ModelHandler:
    return ModelHandler(network, inputs, device="cpu")


def hugging_face(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **_CONFIGS[kind])
    return transformers.AutoModel.from_config(config)


def tokens() -> dict[str, Tensor]:
    """Two texts of six tokens; of the second the last two are padding."""
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": torch.arange(3, 15).reshape(2, 6), "attention_mask": mask}


def expand(*patterns: str) -> list[str]:
    """Return names, of which "layer2.{3}" stands for "layer2.0", "layer2.1" and "layer2.2"."""
    names: list[str] = []
    for pattern in patterns:
        before, bracket, rest = pattern.partition("{")
        count, _, after = rest.partition("}")
        names += [f"{before}{number}{after}" for number in range(int(count))] if bracket else [pattern]
    return names
