"""Rows that are not kept any more go on pulling at the coefficients: a quadratic stands for their log loss.

Near the coefficients W_0 at which rows are folded in, their summed log loss is to second order

    <g, W - W_0> + <W - W_0, H (W - W_0)> / 2

with their gradient g and their curvature H, which is taken for a Kronecker product of the moments of the rows and of
the classes, sum x x^T and sum (diag(p) - p p^T) / n (Ritter et al. 2018, arXiv:1805.07810).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from repurpose.data.scaling import BlockScaling
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Table

__all__ = ["FoldedRows", "loss_and_gradient", "with_ones"]


@storable
@dataclass(frozen=True, eq=False)
class FoldedRows:
    """What rows that were folded in say about coefficients W (n_inputs, n_classes), whose last row is the intercepts.

    Attributes
    ----------
    center, factor : ndarray of shape (n_features,)
        The scaling of the rows, held from the first folding on; n_inputs is n_features + 1.
    anchor, gradient : ndarray of shape (n_inputs, n_classes)
        W_0 and g above.
    moments : ndarray of shape (n_inputs, n_inputs)
        The sum of x x^T.
    curvature : ndarray of shape (n_classes, n_classes)
        The sum of diag(p) - p p^T.
    count : float
        How many rows these are, by their weights.
    """

    center: np.ndarray
    factor: np.ndarray
    anchor: np.ndarray
    gradient: np.ndarray
    moments: np.ndarray
    curvature: np.ndarray
    count: float

    _schema: ClassVar[Table] = {
        "center": Array("n_features"),
        "factor": Array("n_features"),
        "anchor": Array("n_inputs", "n_classes"),
        "gradient": Array("n_inputs", "n_classes"),
        "moments": Array("n_inputs", "n_inputs"),
        "curvature": Array("n_classes", "n_classes"),
        "count": Number(least=0),
    }

    @classmethod
    def none(cls, scaling: BlockScaling, n_classes: int) -> "FoldedRows":
        """Return what no rows say."""
        n_inputs = len(scaling.center) + 1
        nothing, square = np.zeros((n_inputs, n_classes)), np.zeros((n_inputs, n_inputs))
        return cls(scaling.center, scaling.factor, nothing, nothing, square, np.zeros((n_classes, n_classes)), 0.0)

    @property
    def scaling(self) -> BlockScaling:
        return BlockScaling(self.center, self.factor)

    def value_and_gradient(self, W: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the quadratic at W, and its gradient."""
        away = W - self.anchor
        curved = self._curved(away)
        return float((away * (curved / 2 + self.gradient)).sum()), curved + self.gradient

    def joined_by(
        self, inputs: np.ndarray, codes: np.ndarray, weights: np.ndarray | None, W: np.ndarray
    ) -> "FoldedRows":
        """Fold in scaled rows (n_rows, n_inputs), that end in a 1, at the coefficients W."""
        counts = np.ones(len(codes)) if weights is None else weights
        scores = torch.from_numpy(inputs @ W)
        probabilities = torch.softmax(scores, dim=1).numpy()
        weighted = probabilities * counts[:, None]
        curvature = np.diag(weighted.sum(0)) - probabilities.T @ weighted
        gradient = self.value_and_gradient(W)[1] + loss_and_gradient(inputs, codes, weights, W)[1]
        return FoldedRows(
            self.center,
            self.factor,
            W,
            gradient,
            self.moments + inputs.T @ (inputs * counts[:, None]),
            self.curvature + curvature,
            self.count + float(counts.sum()),
        )

    def _curved(self, away: np.ndarray) -> np.ndarray:
        return self.moments @ away @ self.curvature / max(self.count, 1.0)


def with_ones(scaled: np.ndarray) -> np.ndarray:
    """Return rows (n_rows, n_features) with a column of ones behind them, for the intercepts."""
    return np.column_stack([scaled, np.ones(len(scaled))])


def loss_and_gradient(
    inputs: np.ndarray, codes: np.ndarray, weights: np.ndarray | None, W: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the summed log loss of rows (n_rows, n_inputs) under coefficients W, and its gradient, shaped as W."""
    scores = torch.from_numpy(inputs @ W)
    log_probabilities = torch.log_softmax(scores, dim=1).numpy()
    rows = np.arange(len(codes))
    losses = -log_probabilities[rows, codes]
    errors = np.exp(log_probabilities, out=log_probabilities)
    errors[rows, codes] -= 1
    if weights is None:
        return float(losses.sum()), inputs.T @ errors
    return float(losses @ weights), inputs.T @ (errors * weights[:, None])
