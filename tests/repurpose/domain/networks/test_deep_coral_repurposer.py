"""Deep CORAL adds the distance between the covariances of the layers."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from repurpose.domain import DeepCoralRepurposer
from tests.repurpose.domain.networks.adaptation import AdaptationContract


class TestDeepCoralRepurposer(AdaptationContract):
    make = DeepCoralRepurposer
    weight: ClassVar[float] = 20.0  # what it makes small is small
    helps: ClassVar[dict[str, Any]] = {"adaptation_weight": 100.0}

    def difference(self, source: Tensor, target: Tensor) -> Tensor:
        return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * source.shape[1] ** 2)
