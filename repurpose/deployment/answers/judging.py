"""Sets of labels and p-values, by rows given to `conformalize` or by the heads and detectors of folds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from repurpose.deployment.answers.counting import CountsAtLeast, ReferenceScores
from repurpose.deployment.answers.nonconformity import Nonconformity
from repurpose.deployment.answers.tensors import double

__all__ = ["PValues", "SetsByFolds", "SetsByThreshold"]


class PValues(nn.Module):
    """The share of reference rows that are at least as strange, by one judge or several, whose counts are added.

    Parameters
    ----------
    judges : sequence of nn.Module
        Each maps rows (n_rows, n_features) to scores, float64, of rows (n_rows,) or of their labels.
    references : sequence of ReferenceScores
        The scores by each of them of rows that it did not see.
    """

    n_rows: Tensor

    def __init__(self, judges: Sequence[nn.Module], references: Sequence[ReferenceScores]) -> None:
        super().__init__()
        self.judges, self.counts = nn.ModuleList(judges), CountsAtLeast(references)
        self.register_buffer("n_rows", double(1 + self.counts.total))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of features to p-values, in the shape of the judges' scores."""
        return (1 + self.counts(self._scores(rows)).sum(dim=0)) / self.n_rows

    def bounds(self, rows: Tensor, near: float) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest p-values of scores that are at most `near` from those of rows."""
        least, most = (counts.sum(dim=0) for counts in self.counts.bounds(self._scores(rows), near))
        return (1 + least) / self.n_rows, (1 + most) / self.n_rows

    def _scores(self, rows: Tensor) -> Tensor:
        return torch.stack([judge(rows) for judge in self.judges])


class SetsByFolds(nn.Module):
    """Labels are in a set while their p-values by the heads of folds are large enough: cross-conformal sets."""

    share_left_out: Tensor

    def __init__(self, p_values: PValues, share_left_out: float) -> None:
        super().__init__()
        self.p_values = p_values
        self.register_buffer("share_left_out", double(share_left_out))

    def forward(self, rows: Tensor, probabilities: Tensor) -> Tensor:
        """Map rows of features (n_rows, n_features) to bool (n_rows, n_classes)."""
        return self.p_values(rows) > self.share_left_out

    def bounds(self, rows: Tensor, probabilities: Tensor, near: float) -> tuple[Tensor, Tensor]:
        """Return which labels are inside for all scores at most `near` away, and which for some."""
        least, most = self.p_values.bounds(rows, near)
        return least > self.share_left_out, most > self.share_left_out


class SetsByThreshold(nn.Module):
    """Labels are in a set up to a nonconformity: split conformal sets, of one head."""

    largest: Tensor

    def __init__(self, nonconformity: Nonconformity, reference: ReferenceScores, share_left_out: float) -> None:
        super().__init__()
        self.nonconformity = nonconformity
        self.register_buffer("largest", double(reference.largest_inside(share_left_out)))

    def forward(self, rows: Tensor, probabilities: Tensor) -> Tensor:
        """Map rows of features and their calibrated probabilities (n_rows, n_classes) to bool of the same shape."""
        return self.nonconformity(probabilities) <= self.largest

    def bounds(self, rows: Tensor, probabilities: Tensor, near: float) -> tuple[Tensor, Tensor]:
        """Return which labels are inside for all scores at most `near` away, and which for some."""
        scores = self.nonconformity(probabilities)
        return scores + near <= self.largest, scores - near <= self.largest
