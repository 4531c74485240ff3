"""Images: digits of MNIST and of scikit-learn as small networks take them, those networks, and a loop that trains them.

Images have 16 x 16 pixels. Those of MNIST lose their margin of 4 pixels first, as those of scikit-learn have none.
"""

from collections import OrderedDict
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.tasks import task_images

__all__ = ["SIDE", "TRANSFER_LAYER", "learned", "resized", "small_images", "small_network"]

SIDE, TRANSFER_LAYER = 16, "relu3"  # what the classifier of a small network reads
_MARGIN = {"mnist": 4, "digits": 0}
_BATCH_SIZE, _RATE = 64, 2e-3


@cache
def small_images(task: str) -> tuple[Tensor, np.ndarray]:
    """Return all images of a task, (n, 1, SIDE, SIDE), and their labels."""
    images, labels = resized(task, SIDE)
    return (images - 0.3) / 0.35, labels


def resized(task: str, side: int) -> tuple[Tensor, np.ndarray]:
    """Return all images of a task without their margin, (n, 1, side, side) from 0 to 1, and their labels."""
    images, labels = task_images(task)
    kept = slice(_MARGIN[task], images.shape[1] - _MARGIN[task])
    grey = torch.from_numpy(images[:, kept, kept, :1]).permute(0, 3, 1, 2) / 255
    return functional.interpolate(grey, (side, side), mode="bilinear", antialias=True), np.asarray(labels)


def small_network(n_classes: int, *, width: int = 16) -> nn.Module:
    """Make a network of two convolutions and two linear layers with random weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(1, width, 5, padding=2),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(width, 2 * width, 5, padding=2),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "hidden": nn.Linear(2 * width * (SIDE // 4) ** 2, 4 * width),
            TRANSFER_LAYER: nn.ReLU(),
            "classifier": nn.Linear(4 * width, n_classes),
        }
        return nn.Sequential(OrderedDict(layers))


def learned(network: nn.Module, images: Tensor, codes: np.ndarray, *, n_steps: int = 300) -> nn.Module:
    """Train a network in place, on batches of 64 of rows drawn anew in each step, the same each time, and return it."""
    targets, rng = torch.from_numpy(codes), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=n_steps)
    network.train()
    for _ in range(n_steps):
        rows = torch.randint(len(images), (_BATCH_SIZE,), generator=rng)
        loss = functional.cross_entropy(network(images[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()
