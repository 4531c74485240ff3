"""Two domains of small images, and networks for them."""

from typing import Any

import torch
from torch import Tensor, nn

from repurpose.domain import DomainAdaptationRepurposer, GradientReversal

Pair = tuple[Tensor, Tensor]


def two_domains(n_source: int = 24, n_target: int = 40) -> tuple[Pair, Pair]:
    """Images (n, 1, 6, 6) of three classes, which a bright row of pixels tells apart; the target is brighter."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n_source + n_target) % 3
    X = torch.rand(n_source + n_target, 1, 6, 6, generator=generator) * 0.3
    X[torch.arange(len(y)), 0, y] += 0.7
    return (X[:n_source], y[:n_source]), (X[n_source:] * 1.5 + 0.2, y[n_source:])


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    maps = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d((4, 1)), nn.Flatten()
    return nn.Sequential(*maps, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))


class MeansRepurposer(DomainAdaptationRepurposer):
    """Brings the means of the domains together."""

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        return (source_rows.mean(dim=0) - target_rows.mean(dim=0)).pow(2).sum()


class AdversaryRepurposer(DomainAdaptationRepurposer):
    """Tells the domains apart by one linear layer behind a reversal."""

    def _domain_module(self, width: int) -> nn.Module:
        return nn.Sequential(GradientReversal(), nn.Linear(width, 1))

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        tell = nn.functional.binary_cross_entropy_with_logits
        return tell(source_rows, torch.ones_like(source_rows)) + tell(target_rows, torch.zeros_like(target_rows))


def quick(cls: Any, **options: Any) -> Any:
    return cls(small_network(), **{"num_epochs": 2, "random_state": 0, "verbose": False, "batch_size": 8, **options})
