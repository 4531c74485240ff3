"""Small networks that the tests of TOAST steer, and both passes of a vision transformer written out by hand."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models import VisionTransformer

from repurpose import ToastPretuning
from repurpose.persistence.network.fingerprint import fingerprint

WIDTH, N_HEADS = 16, 2


def fused_vit(seed: int = 0, **options: Any) -> nn.Module:
    """timm's vision transformer, in which one layer makes queries, keys and values."""
    torch.manual_seed(seed)
    size = {"img_size": 16, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": N_HEADS, "num_classes": 5}
    return _lively(TimmVisionTransformer(**{**size, **options})).eval()


def multi_head_vit(seed: int = 0) -> nn.Module:
    """torchvision's vision transformer, on `nn.MultiheadAttention`."""
    torch.manual_seed(seed)
    network = VisionTransformer(16, 8, num_layers=2, num_heads=N_HEADS, hidden_dim=WIDTH, mlp_dim=24, num_classes=5)
    return _lively(network).eval()


class TinyResNet(nn.Module):
    """A residual network of three blocks and two stages, of `width` channels and twice as many."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        wider = 2 * width
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, 1), ResidualBlock(width, wider, 2), ResidualBlock(wider, wider, 1)
        )
        self.fc = nn.Linear(wider, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class ResidualBlock(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self, n_read: int, n_given: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_read, n_given, 3, stride, padding=1)
        self.norm = nn.BatchNorm2d(n_given)
        same = stride == 1 and n_read == n_given
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_read, n_given, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + self.shortcut(x))


def tiny_resnet(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    network = TinyResNet(width)
    network(torch.rand(8, 3, 8, 8))  # moves the statistics of normalisation
    return network.eval()


def tiny_bert(**options: Any) -> nn.Module:
    """BERT's encoder of two blocks of 16 channels."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": N_HEADS, "intermediate_size": 24}
    return BertModel(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes), **options).eval()


def other_network(family: str) -> tuple[nn.Module, Any]:
    """A small network of another family, with lively weights, and inputs of two rows for it."""
    torch.manual_seed(0)
    text = {"input_ids": torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]]), "attention_mask": torch.ones(2, 4).long()}
    if family == "albert":  # one module that runs three times
        from transformers import AlbertConfig, AlbertModel

        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
        config = AlbertConfig(vocab_size=20, embedding_size=8, max_position_embeddings=8, **sizes)
        return _lively(AlbertModel(config)).eval(), text
    if family == "gpt2":  # layers that hold their weights the other way round
        from transformers import GPT2Config, GPT2Model

        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 20, "n_positions": 8}
        return _lively(GPT2Model(GPT2Config(bos_token_id=1, eos_token_id=1, **sizes))).eval(), text
    if family == "beit":  # reads the weight of its qkv instead of calling it
        from timm.models import Beit

        network: Any = Beit(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5)
        return _lively(network).eval(), torch.rand(2, 3, 16, 16)
    if family == "swin":  # stages of maps with their channels last
        from torchvision.models import SwinTransformer

        return _lively(SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=5)).eval(), torch.rand(
            2, 3, 16, 16
        )
    from timm.models import ConvNeXt

    network = ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 8, 12, 16), num_classes=5)
    return _lively(network).eval(), torch.rand(2, 3, 32, 32)


def images(n_rows: int = 8, size: int = 16) -> tuple[Tensor, list[int]]:
    """Images of two classes, light in the right half and light in the left one."""
    X = torch.rand(n_rows, 3, size, size, generator=torch.Generator().manual_seed(0))
    X[::2, :, :, size // 2 :] += 2
    X[1::2, :, :, : size // 2] += 2
    return X, [0, 1] * (n_rows // 2)


def drawn_pretuning(network: nn.Module, width: int = WIDTH, n_blocks: int = 2, seed: int = 0) -> ToastPretuning:
    """A pre-tuning of a transformer, in which nothing was trained."""
    rng = np.random.default_rng(seed)
    maps = [f"feedback.{kind}.{block}.weight" for kind in "AB" for block in range(n_blocks)]
    shapes = {"selection.xi": (width,), **dict.fromkeys(["selection.P", *maps], (width, width))}
    arrays = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return ToastPretuning(arrays, type(network).__name__, fingerprint(network))


class Texts(Dataset):
    """Texts of numbered words, 0 being padding, of two classes in turn."""

    def __init__(self, texts: list[list[int]]) -> None:
        self.ids = torch.tensor(texts)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> tuple[dict[str, Tensor], int]:
        ids = self.ids[number]
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}, number % 2


def fused_vit_by_hand(network: Any, X: Tensor, top_down: list[Tensor] | None = None) -> Tensor:
    """Compute the tokens behind the final normalisation of `fused_vit`, with W_v td added to the values of blocks."""
    x = network.patch_embed(X)
    x = torch.cat([network.cls_token.expand(len(X), -1, -1), x], dim=1) + network.pos_embed
    for number, block in enumerate(network.blocks):
        h = F.layer_norm(x, (WIDTH,), block.norm1.weight, block.norm1.bias, block.norm1.eps)
        weights, biases = block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)
        query, key, value = (h @ weight.T + bias for weight, bias in zip(weights, biases, strict=True))
        if top_down is not None:
            value = value + top_down[number] @ weights[2].T
        heads = []
        for q, k, v in zip(*(part.chunk(N_HEADS, dim=-1) for part in (query, key, value)), strict=True):
            heads.append((q @ k.mT / (WIDTH // N_HEADS) ** 0.5).softmax(dim=-1) @ v)
        x = x + torch.cat(heads, dim=-1) @ block.attn.proj.weight.T + block.attn.proj.bias
        x = x + block.mlp(block.norm2(x))
    return network.norm(x)


def steered_by_hand(module: Any, network: Any, X: Tensor) -> Tensor:
    """Compute the logits of both passes over `fused_vit` by the equations of the paper."""
    xi, P = module.selection.xi, module.selection.P
    z = fused_vit_by_hand(network, X)
    cosines = (z * xi).sum(-1) / (z.norm(dim=-1) * xi.norm())
    u = (cosines.clamp(0, 1).unsqueeze(-1) * z) @ P.T
    top_down = {}
    for number in (1, 0):
        u = u @ module.feedback.A[number].weight.T
        top_down[number] = u @ module.feedback.B[number].weight.T
    tokens = fused_vit_by_hand(network, X, [top_down[number] for number in range(2)])
    return tokens[:, 0] @ module.head.weight.T + module.head.bias


def _lively(network: nn.Module) -> nn.Module:
    """Draw weights so large that the class token sees much of the image, and biases that are no zeros."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 or "bias" in name:
            nn.init.normal_(parameter, std=0.2)
    return network
