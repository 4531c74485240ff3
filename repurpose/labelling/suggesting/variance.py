"""`by_variance` chooses rows whose labels make the latent functions surest at other rows, whatever the labels are.

Knowing the value at a row takes a product of one vector off the covariance of all rows, which depends on the noise of
the row and not on its value. With the noise of another class this is exact for `JointLatent.shared`, the covariance
that P = (K + other I)^-1 leaves for all classes alike: no label enters, and none is guessed.

With `weights` the fall at a row counts as much as the head is in doubt there. For this the covariance is the average
over the classes, which knows the labels that there are, and the noise that of the row's own class: of the ten latent
functions it is this one that the label tells most about.
"""

import torch
from torch import Tensor

__all__ = ["by_variance"]


def by_variance(
    covariance: Tensor, n_candidates: int, noise: float, n: int, weights: Tensor | None = None
) -> tuple[list[int], list[float]]:
    """Choose `n` of the first `n_candidates` rows, one after the other, and say what each takes off.

    `covariance` (n_rows, n_rows) is a posterior one of candidates and, behind them, the rows to be sure of, which may
    have weights. The score of a candidate is by how much its label lowers their mean variance (Cohn 1996), given those
    chosen before; with weights, their weighted sum divided by the number of rows.
    """
    left, chosen, scores = covariance.clone(), [], []
    n_targets = len(covariance) - n_candidates
    shares = (torch.ones(n_targets, dtype=covariance.dtype) if weights is None else weights) / n_targets
    may_be_chosen = torch.ones(n_candidates, dtype=torch.bool)
    for _ in range(n):
        falls = left[:n_candidates, n_candidates:].square() @ shares
        falls /= left.diagonal()[:n_candidates].clamp_min(0) + noise
        row = int(torch.where(may_be_chosen, falls, -torch.inf).argmax())
        may_be_chosen[row] = False
        chosen.append(row)
        scores.append(float(falls[row]))
        of_row = left[:, row].clone()
        left.addr_(of_row, of_row, alpha=-1 / (float(of_row[row]) + noise))
    return chosen, scores
