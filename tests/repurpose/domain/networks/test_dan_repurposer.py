"""DAN adds the MMD^2 of the layers, by either estimator."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from repurpose.domain import DanRepurposer
from tests.repurpose.domain.networks.adaptation import AdaptationContract


def kernel(x: Tensor, z: Tensor, widths: list[Tensor]) -> Tensor:
    distances = (x[:, None] - z[None]).square().sum(dim=2)
    return torch.stack([torch.exp(-distances / width) for width in widths]).mean(dim=0)


class TestDanRepurposer(AdaptationContract):
    make = DanRepurposer

    def difference(self, source: Tensor, target: Tensor) -> Tensor:
        median = torch.pdist(torch.cat([source, target]).detach()).square().median()
        widths = [median * factor for factor in (0.25, 0.5, 1, 2, 4)]
        n, m = len(source), len(target)
        of_source, of_target = kernel(source, source, widths), kernel(target, target, widths)
        return (
            (of_source.sum() - n) / (n * (n - 1))
            + (of_target.sum() - m) / (m * (m - 1))
            - 2 * kernel(source, target, widths).mean()
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_kernels": 0}, "n_kernels must be a whole number of at least 1, got 0"),
            ({"n_kernels": 2.5}, "n_kernels must be a whole number of at least 1, got 2.5"),
            ({"estimator": "quadratic"}, 'estimator must be "full" or "linear", got \'quadratic\''),
        ],
    )
    def test_what_is_no_kernel_or_estimator_is_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.learned(**options)


class TestLinearTimeDanRepurposer(AdaptationContract):
    make = DanRepurposer
    options: ClassVar[dict[str, Any]] = {"estimator": "linear", "n_kernels": 1}

    def difference(self, source: Tensor, target: Tensor) -> Tensor:
        n = min(len(source), len(target)) // 2 * 2
        pairs = [(source[i], source[i + 1], target[i], target[i + 1]) for i in range(0, n, 2)]
        apart = [(s - u, t - v, s - v, u - t) for s, u, t, v in pairs]
        squared = torch.stack([torch.stack([part.square().sum() for part in parts]) for parts in apart])
        kernels = torch.exp(-squared / squared.detach().median())
        return (kernels[:, :2].sum() - kernels[:, 2:].sum()) / len(pairs)
