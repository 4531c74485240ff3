"""`CalibratedAnswers`: from features to probabilities, label, set and p-value, as one module."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repurpose.deployment.answers.judging import PValues, SetsByFolds, SetsByThreshold

__all__ = ["CalibratedAnswers", "Within"]


@dataclass(frozen=True, eq=False)
class Within:
    """What sets and p-values may become where rounding moves scores a little.

    Attributes
    ----------
    surely, possibly : bool tensors of shape (n_rows, n_classes)
        Which labels are in a set in any case, and which in some; before a set that is empty gets its likeliest label.
    least, most : float64 tensors of shape (n_rows,)
        The smallest and the largest p-value.
    """

    surely: Tensor
    possibly: Tensor
    least: Tensor
    most: Tensor


class CalibratedAnswers(nn.Module):
    """Maps features to what a Repurposer answers; made by `answers_of`.

    Attributes
    ----------
    coverage : float
    score, method : str
        The score of the sets, and how unfamiliarity is measured.
    """

    def __init__(
        self,
        head: nn.Module,
        sets: SetsByFolds | SetsByThreshold,
        p_values: PValues,
        *,
        rows: nn.Module | None,
        calibrated: nn.Module | None,
        calibration_keeps_order: bool,
        allow_empty: bool,
        coverage: float,
        score: str,
        method: str,
    ) -> None:
        super().__init__()
        self.rows, self.head, self.calibrated = rows or nn.Identity(), head, calibrated or nn.Identity()
        self.sets, self.p_values = sets, p_values
        self.calibration_keeps_order, self.allow_empty = calibration_keeps_order, allow_empty
        self.coverage, self.score, self.method = coverage, score, method

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map features (n_rows, n_features), float32, to probabilities, label_index, in_set and p_value.

        Probabilities and `in_set`, which is bool, have the shape (n_rows, n_classes), the other two (n_rows,).
        """
        rows = self.rows(features)
        raw = self.head(rows)
        probabilities = self.calibrated(raw)
        likeliest = probabilities.argmax(dim=1, keepdim=True)
        label_index = raw.argmax(dim=1) if self.calibration_keeps_order else likeliest[:, 0]
        members = self.sets(rows, probabilities)
        if not self.allow_empty:
            is_likeliest = torch.arange(members.shape[1], device=members.device) == likeliest
            members = members | (is_likeliest & ~members.any(dim=1, keepdim=True))
        return probabilities.double(), label_index, members, self.p_values(rows)

    def within(self, features: Tensor, near: float) -> Within:
        """Return what answers to rows (n_rows, n_features) may become where scores move by `near` at most.

        It is in units of the largest reference score, 1 at least.
        """
        rows = self.rows(features)
        probabilities = self.calibrated(self.head(rows))
        return Within(*self.sets.bounds(rows, probabilities, near), *self.p_values.bounds(rows, near))

    @property
    def n_bytes(self) -> int:
        """How many bytes the numbers take that a file must hold; what several parts share counts once."""
        stored = {tensor.data_ptr(): tensor.nbytes for tensor in self.buffers()}
        return sum(stored.values())
