"""Small problems that the tests of this folder share, and naive computations to compare with."""

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.targets import DirichletTargets

SIZES = [9, 12, 1, 8]
TARGETS = DirichletTargets.of(1e-2)
KERNEL = LayerKernels(np.array([2.0, 0.7]), np.array([1.3, 0.8]), np.array([0.6, 0.4]))


def codes(sizes: list[int] = SIZES) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def rows(n_samples: int = sum(SIZES), seed: int = 0) -> list[Tensor]:
    """Two layers of 5 and 3 columns."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n_samples, width, generator=generator, dtype=torch.float64) for width in (5, 3)]


def kernel_matrix() -> Tensor:
    x = rows()
    return KERNEL.matrix(Products.between(x, x))


def naive_targets(targets: DirichletTargets = TARGETS, sizes: list[int] = SIZES) -> tuple[Tensor, Tensor]:
    """Targets and noise variances written out: each (n_samples, n_classes)."""
    own = codes(sizes)[:, None] == np.arange(len(sizes))
    means, noise = np.where(own, targets.own, targets.other), np.where(own, targets.own_noise, targets.other_noise)
    return torch.from_numpy(means), torch.from_numpy(noise)


def naive_inverses(kernel: Tensor, noise: Tensor) -> Tensor:
    """(K + D_c)^-1 by a batched solve: (n_classes, n, n)."""
    return torch.linalg.inv(kernel + torch.diag_embed(noise.T))
