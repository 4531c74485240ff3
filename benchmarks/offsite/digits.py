"""Digits: a ViT of 12 blocks has learned those of MNIST, and is tuned to those of scikit-learn, 10 labels a class.

The network is trained here and kept in the folder, on images moved by up to a pixel. The digits of scikit-learn, 8 x 8
pixels, get a margin, so that they are as large and as dark in their 12 x 12 pixels as those of MNIST in theirs.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.offsite.sides import KINDS, UNTRAINED, Task
from benchmarks.offsite.sides import examine as examine_task
from benchmarks.tasks import few_per_class

__all__ = ["HEADS", "NAME", "RATES", "examine", "kinds", "missing"]

NAME = "digits"
RATES = (3e-4, 1e-3, 3e-3)
HEADS = UNTRAINED
N_PER_CLASS, N_TUNE = 10, 400
N_SOURCE, N_STEPS = 4000, 1500  # the source's images, steps in batches of 64
WIDTH, N_BLOCKS, PATCH = 48, 12, 4
ADAPTER, EMULATOR, DISTILL_STEPS = (2, 2), 4, 2000
N_EPOCHS, BATCH_SIZE = 20, 20  # 100 steps


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") and find_spec("timm") else "mlxtend and timm are not installed"


def kinds() -> list[str]:
    """List what is compared."""
    return list(KINDS)


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few digits and measure on others; by those learning rates are not chosen."""
    images, labels = target_digits()
    train, others = few_per_class(labels, N_PER_CLASS, cell.seed)
    order = np.random.default_rng(0).permutation(len(others))
    test = others[order[:N_TUNE] if cell.seed in TUNING_SEEDS else order[N_TUNE:]]
    return examine_task(cell, _task(folder), (images[train], labels[train]), (images[test], labels[test]), folder)


def _task(folder: Path) -> Task:
    images, options = _moved_digits(), {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE}
    return Task(NAME, _network(folder), ADAPTER, EMULATOR, images[:2], images, DISTILL_STEPS, None, options)


def _network(folder: Path) -> nn.Module:
    from benchmarks.adapters.small_vits import SIDE, kept, small_vit

    network = small_vit((SIDE, SIDE), 10, patch=PATCH, width=WIDTH, n_blocks=N_BLOCKS)
    return kept(folder / "digits.safetensors", network, _batch, n_steps=N_STEPS)


def _batch(step: int) -> tuple[Tensor, np.ndarray]:
    """Draw 64 of the source's digits, moved together by up to a pixel."""
    images, labels = _source_digits()
    rng = torch.Generator().manual_seed(step)
    rows = torch.randint(N_SOURCE, (64,), generator=rng)
    shifts = torch.randint(-1, 2, (2,), generator=rng).tolist()
    return torch.roll(images[rows], shifts, (2, 3)), labels[rows].numpy()


@cache
def _moved_digits() -> Tensor:
    """Move the source's digits by up to a pixel in all nine ways, for distillation."""
    images, _ = _source_digits()
    return torch.cat([torch.roll(images, shifts, (2, 3)) for shifts in product((0, 1, -1), repeat=2)])


@cache
def _source_digits() -> tuple[Tensor, Tensor]:
    from benchmarks.adapters.small_vits import mnist_digits

    return mnist_digits(slice(N_SOURCE))


@cache
def target_digits() -> tuple[Tensor, np.ndarray]:
    """Return the digits of scikit-learn as the network takes them, (n, 1, 12, 12), and their labels."""
    from benchmarks.adapters.small_vits import SIDE, normalised

    digits = load_digits()
    images = torch.from_numpy(digits.images[:, None] / 16).float()
    margin = (SIDE - images.shape[-1]) // 2
    return normalised(functional.pad(images, [margin] * 4)), digits.target
