"""A logistic regression starts where another one ended, whose classes may have been fewer, more or others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repurpose.data.scaling import BlockScaling

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["WarmStart"]


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Coefficients (n_logits, n_features) and intercepts (n_logits,) for raw rows, as many as a fit of them has."""

    coefficients: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def of(cls, model: "LogisticRegression", new_code: np.ndarray, n_classes: int) -> "WarmStart":
        """Take those of a fitted model by the number that each of its classes has now, -1 if it is gone.

        New classes start at 0. Two classes have one logit, that of their difference.
        """
        together = np.column_stack([model.coef_, model.intercept_])
        if len(together) == 1:
            together = np.concatenate([-together / 2, together / 2])
        start, known = np.zeros((n_classes, together.shape[1])), new_code >= 0
        start[new_code[known]] = together[known]
        if n_classes == 2:
            start = start[1:] - start[:1]
        return cls(start[:, :-1], start[:, -1])

    def give_to(self, model: "LogisticRegression", scaling: BlockScaling, basis: np.ndarray | None) -> None:
        """Let a model that is to be fitted to scaled rows, rotated by `basis` or not, start here; in place."""
        coefficients, model.intercept_ = scaling.take_in(self.coefficients, self.intercepts)
        model.coef_ = coefficients if basis is None else coefficients @ basis
        model.set_params(warm_start=True)
