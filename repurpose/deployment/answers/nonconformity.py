"""How strange each label is for each row, and calibration, as modules."""

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.deployment.answers.tensors import double
from repurpose.uncertainty.calibration import Calibration

__all__ = ["Calibrated", "Nonconformity"]

_SMALLEST = float(np.finfo(np.float64).eps)  # in place of a probability of 0, as in `Calibration`


class Calibrated(nn.Module):
    """Probabilities as a `Calibration` has them: (n_rows, n_classes) to the same, float64."""

    factors: Tensor
    offsets: Tensor
    smallest: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("factors", double(calibration.factors))
        self.register_buffer("offsets", double(calibration.offsets))
        self.register_buffer("smallest", double(_SMALLEST))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Calibrate probabilities."""
        logits = torch.log(torch.maximum(probabilities.double(), self.smallest))
        return torch.softmax(logits * self.factors + self.offsets, dim=1)


class Nonconformity(nn.Module):
    """The nonconformity of each label, as `nonconformity_of_labels` has it: (n_rows, n_classes) to the same, float64.

    Probabilities of float32 are added up in float32, as there.
    """

    costs: Tensor

    def __init__(self, score: str, rank_cost: tuple[int, float], n_classes: int) -> None:
        super().__init__()
        self.score = score
        n_free, cost = rank_cost
        costs = cost * np.maximum(np.arange(n_classes) + 1 - n_free, 0) if score == "raps" else np.zeros(n_classes)
        self.register_buffer("costs", double(costs))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Score the labels of rows by their probabilities."""
        if self.score == "lac":
            return (1 - probabilities).double()
        if torch.compiler.is_exporting():  # ONNX's sort is stable, and the exporter knows none that says so
            falling, likeliest_first = torch.sort(probabilities, dim=1, descending=True)
        else:
            falling, likeliest_first = torch.sort(probabilities, dim=1, descending=True, stable=True)
        by_rank = (falling.cumsum(dim=1) - falling / 2).double() + self.costs
        return torch.zeros_like(by_rank).scatter(1, likeliest_first, by_rank)
