"""Temperature scaling of the Gaussian processes by leave-one-out predictions, in closed form and without a new fit.

Leaving out one example alone makes its class scarcer than the others, which biases what is measured where a class has
few examples: of two, one is left, against two of every other. So one example of *each* class is left out at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.evidence import Posterior
from repurpose.meta_model.gp.model import tempered_logits

__all__ = ["choose_temperature", "deal_groups"]

# The prior of log temperature is normal about 0 with this deviation. A wider one chooses by noise where data are few:
# with two labels a class of the digits, 0.1 raised the log loss by 0.008 and 0.25 by 0.03.
_DEVIATION = 0.05
_FURTHEST = 2.0
_MAX_WORK = 2 * 10**8  # numbers to compute for blocks of inverses


def choose_temperature(
    posterior: Posterior, class_sizes: Sequence[int], variance_factor: float, random_state: np.random.RandomState
) -> float:
    """Return the temperature of the least log loss of left-out examples, drawn towards 1; 1 where none can be left out.

    Each example counts as often as it did for the posterior.
    """
    from scipy.optimize import minimize_scalar

    groups = deal_groups(class_sizes, random_state)
    if not groups:
        return 1.0
    rows = torch.cat(groups)
    means, variances = posterior.leave_out(groups)
    logits = tempered_logits(means[rows], variances[rows], variance_factor, 1.0)
    # Less the logit of the truth, the log loss is a logsumexp alone, whatever the temperature.
    logits -= logits.gather(1, posterior.solve.class_of_column[rows, None])

    repeats = None if posterior.repeats is None else posterior.repeats[rows]

    def loss(log_temperature: float) -> float:
        losses = torch.logsumexp(logits * np.exp(-log_temperature), dim=1)
        summed = losses.sum() if repeats is None else losses @ repeats
        return float(summed) + 0.5 * (log_temperature / _DEVIATION) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-_FURTHEST, _FURTHEST), method="bounded").x))


def deal_groups(class_sizes: Sequence[int], random_state: np.random.RandomState) -> list[Tensor]:
    """Return rows, sorted by class, in groups of at most one of each class; a class of one example is in no group.

    Many classes are spread over several groups, so that the blocks of the inverses stay small.
    """
    n_samples, n_classes = sum(class_sizes), len(class_sizes)
    at_most = max(2, int((_MAX_WORK / (n_samples * n_classes)) ** 0.5))
    members = [random_state.permutation(size) + start for size, start in zip(class_sizes, _starts(class_sizes))]
    groups: list[Tensor] = []
    for rank in range(max(class_sizes)):
        rows = [of_class[rank] for of_class, size in zip(members, class_sizes) if size > max(rank, 1)]
        if rows:
            shuffled = torch.from_numpy(random_state.permutation(rows))
            groups += shuffled.tensor_split(-(-len(rows) // at_most))
    return groups


def _starts(class_sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(class_sizes)[:-1].tolist()]
