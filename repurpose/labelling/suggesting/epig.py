"""`Epig` chooses rows whose labels tell most about the labels of other rows of the pool.

EPIG (expected predictive information gain, Bickford Smith et al. 2023, arXiv:2304.08151) is the mutual information of
the label y of a candidate and the label y* of another row, on average over these: by how many nats knowing y is
expected to lower the log loss there. Labels are independent given the latent functions, so that joint draws of these at
both rows give

    p(y, y*) = mean over draws of p(y | draw) p(y* | draw)

which is one matrix product for all candidates. Rows are chosen by draws of which the head's probabilities are the
average, but for the approximation of `tempered_logits`: with `variance_factor` times the variance of the posterior, and
the head's temperature. (With the whole variance the choice is worse: on digits, 60 labels had .91 of the rest right,
against .92.)

A row that was chosen has no label yet, and its noise depends on it. With the label k of probability p_k, process c sees
its own noise and target with p_c and the others' with 1 - p_c. Mean and covariance of each process take the average of
the two updates, which is a rank-one change; draws follow by the square-root update of Potter (Bierman 1977).
"""

import numpy as np
import torch
from torch import Tensor

from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["Epig", "information"]

N_DRAWS = 64
_MOST_LABELS = 10  # of a row; the least likely ones of more count as one, which can only lose information
_AT_A_TIME = 32  # candidates that are asked again
_MAX_ELEMENTS = 2**21  # of joint probabilities at a time: they stay in the cache


class Epig:
    """Draws of the latent functions at candidates and, behind them, the target rows; rows are chosen in place."""

    def __init__(
        self, model: GpModel, latent: JointLatent, targets: DirichletTargets, random_state: np.random.RandomState
    ) -> None:
        self._latent, self._targets = latent, targets
        self._means = latent.means.clone()
        self._deviations = latent.deviations(N_DRAWS, random_state)
        self._spread, self._temperature = model.variance_factor**0.5, model.temperature
        self._changes: list[tuple[Tensor, Tensor]] = []  # q and s of each row chosen: q s s^T is off the covariance

    def probabilities(self) -> Tensor:
        """Return the probabilities of each draw: float64 (n_draws, n_rows, n_classes)."""
        return torch.softmax((self._means + self._spread * self._deviations) / self._temperature, dim=2)

    def choose(self, n_candidates: int, n: int) -> tuple[list[int], list[float]]:
        """Choose `n` of the first `n_candidates` rows, each given those before it, and return their scores in nats too.

        The rows behind the candidates are the targets.
        """
        rows: list[int] = []
        scores: list[float] = []
        last_known = torch.full((n_candidates,), torch.inf)
        for _ in range(n):
            draws = self.probabilities()
            coarse = _coarsened(draws).float()
            last_known[rows] = -torch.inf
            row = _best(coarse[:, :n_candidates], coarse[:, n_candidates:], last_known)
            rows.append(row)
            scores.append(float(last_known[row]))
            self._average_over_label(row, draws[:, row].mean(dim=0))
        return rows, scores

    def _average_over_label(self, row: int, probabilities: Tensor) -> None:
        """Let a row enter with each label, in proportion to their probabilities (n_classes,); in place."""
        targets = self._targets
        covariances = self._latent.covariances_with(row)
        for q, s in self._changes:
            covariances -= q * s * s[row]
        variances, means = covariances[row].clamp_min(0), self._means[row]
        by_own = probabilities / (variances + targets.own_noise)
        by_other = (1 - probabilities) / (variances + targets.other_noise)
        q = by_own + by_other
        shifts = by_own * (targets.own - means) + by_other * (targets.other - means)
        self._means = self._means + covariances * shifts
        # (I - a s e^T) has the covariance less q s s^T for this a.
        factors = q / (1 + (1 - q * variances).sqrt())
        self._deviations = self._deviations - factors * covariances * self._deviations[:, row, None]
        self._changes.append((q, covariances))


def _best(candidates: Tensor, targets: Tensor, last_known: Tensor) -> int:
    """Return the candidate with the greatest information, and note in `last_known` what was found, in place.

    With each row that is chosen the others have less left to tell, as a rule (Minoux 1978): those whose last score is
    below the best of now are not asked again.
    """
    order = last_known.argsort(descending=True, stable=True)
    n_asked = len(order) if last_known.max() == torch.inf else _AT_A_TIME
    best = -torch.inf
    for some in order.split(n_asked):
        if last_known[some[0]] <= best:
            break
        some = some[last_known[some] > -torch.inf]
        last_known[some] = information(candidates[:, some], targets).mean(dim=1)
        best = max(best, float(last_known[some].max()))
    return int(last_known.argmax())


def information(candidates: Tensor, targets: Tensor) -> Tensor:
    """Compute the mutual information, in nats, of the labels of each candidate and each target row.

    Probabilities given each draw, (n_draws, n_candidates, n_labels) and (n_draws, n_targets, n_labels), make
    (n_candidates, n_targets), all in one dtype.
    """
    n_draws, n_targets, of_target = targets.shape
    n_labels = candidates.shape[2]
    right = targets.flatten(1)
    alone = _entropy(candidates.mean(dim=0))[:, None] + _entropy(targets.mean(dim=0))
    size = max(1, _MAX_ELEMENTS // (n_labels * max(1, right.shape[1])))
    together = []
    for part in candidates.split(size, dim=1):
        joint = (part.flatten(1).T @ right) / n_draws
        by_label = joint.view(part.shape[1], n_labels, n_targets, of_target)
        together.append(-torch.xlogy(by_label, by_label).sum(dim=(1, 3)))
    return alone - torch.cat(together)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _coarsened(draws: Tensor) -> Tensor:
    """Keep the likeliest labels of each row, and make one of all others: (n_draws, n_rows, at most 10)."""
    n_classes = draws.shape[2]
    if n_classes <= _MOST_LABELS:
        return draws
    likeliest = draws.mean(dim=0).topk(_MOST_LABELS - 1, dim=1).indices
    kept = draws.gather(2, likeliest.expand(len(draws), -1, -1))
    return torch.cat([kept, (1 - kept.sum(dim=2, keepdim=True)).clamp_min(0)], dim=2)
