"""Small networks with a chain of blocks, and inputs for them."""

from typing import Any

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision.models import VisionTransformer

__all__ = ["bert", "gpt2", "images", "resnet", "tokens", "vit"]


def vit(depth: int = 6, n_classes: int = 3) -> nn.Module:
    """A vision transformer whose blocks are called encoder.layers.encoder_layer_0 and so on."""
    torch.manual_seed(1)
    return VisionTransformer(16, 8, depth, 2, hidden_dim=16, mlp_dim=32, num_classes=n_classes, dropout=0.1).eval()


def resnet() -> nn.Module:
    """A ResNet of eleven blocks, every stage behind the first of which begins with a change of width and resolution."""
    torch.manual_seed(2)
    network = ResNet(BasicBlock, (2, 4, 4, 1), num_classes=3, channels=(8, 12, 16, 24), stem_width=8)
    network(images(32, 32))  # statistics of its own
    return network.eval()


def bert(depth: int = 6, *, classes: bool = True) -> nn.Module:
    """A BERT with a head for three classes, or the encoder alone."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(vocab_size=40, num_hidden_layers=depth, num_labels=3, **sizes)
    kind = "AutoModelForSequenceClassification" if classes else "AutoModel"
    return getattr(transformers, kind).from_config(config).eval()


def gpt2(depth: int = 6) -> nn.Module:
    """A GPT-2 with a head for three classes; its configuration calls the number of blocks n_layer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=depth, n_head=2, n_positions=12, num_labels=3, **ends
    )
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def images(n_rows: int = 4, side: int = 16) -> torch.Tensor:
    """Images with three channels."""
    return torch.rand(n_rows, 3, side, side, generator=torch.Generator().manual_seed(5))


def tokens(n_rows: int = 4) -> dict[str, torch.Tensor]:
    """Texts of five tokens, the last two of every other one padding."""
    ids = torch.randint(2, 40, (n_rows, 5), generator=torch.Generator().manual_seed(6))
    mask = torch.ones_like(ids)
    ids[::2, 3:], mask[::2, 3:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}
