"""`by_variance` chooses rows whose labels, whatever they are, make the latent functions surest at other rows.

A row with the noise of another class adds a row to P = (K + other I)^-1, which takes a product of one vector off the
covariance that P leaves (`JointLatent.shared`), for all classes alike: no label enters, and none is guessed.
"""

import torch
from torch import Tensor

__all__ = ["by_variance"]


def by_variance(shared: Tensor, n_candidates: int, noise: float, n: int) -> tuple[list[int], list[float]]:
    """Choose `n` of the first `n_candidates` rows, one after the other, and say what each takes off.

    `shared` (n_rows, n_rows) is a posterior covariance of candidates and, behind them, the rows to be sure of. The
    score of a candidate is by how much its label lowers their mean variance (Cohn 1996), given those chosen before.
    """
    shared, chosen, scores = shared.clone(), [], []
    may_be_chosen = torch.ones(n_candidates, dtype=torch.bool)
    for _ in range(n):
        falls = shared[:n_candidates, n_candidates:].square().mean(dim=1) / (
            shared.diagonal()[:n_candidates].clamp_min(0) + noise
        )
        row = int(torch.where(may_be_chosen, falls, -torch.inf).argmax())
        may_be_chosen[row] = False
        chosen.append(row)
        scores.append(float(falls[row]))
        of_row = shared[:, row].clone()
        shared.addr_(of_row, of_row, alpha=-1 / (float(of_row[row]) + noise))
    return chosen, scores
