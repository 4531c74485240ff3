"""Temperature scaling of the Gaussian processes by leave-one-out predictions, in closed form and without a new fit.

Leaving out one example alone makes its class scarcer than the others, which biases what is measured where a class has
few examples: of two, one is left, against two of every other. So one example of *each* class is left out at a time, and
of rows in groups (`data.groups`) one group of each.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from repurpose.data.groups import Grouping
from repurpose.meta_model.gp.evidence import Posterior
from repurpose.meta_model.gp.model import tempered_logits

__all__ = ["choose_temperature", "deal_groups"]

# The prior of log temperature is normal about 0 with this deviation. A wider one chooses by noise where data are few:
# with two labels a class of the digits, 0.1 raised the log loss by 0.008 and 0.25 by 0.03.
_DEVIATION = 0.05
_FURTHEST = 2.0
_MAX_WORK = 2 * 10**8  # numbers to compute for blocks of inverses
# Operations, for the block of a group, which cannot be left out in parts: some seconds, and a gigabyte of 100 classes.
_LARGEST_BLOCK = 2 * 10**10


def choose_temperature(
    posterior: Posterior,
    class_sizes: Sequence[int],
    variance_factor: float,
    random_state: np.random.RandomState,
    groups: np.ndarray | None = None,
) -> float:
    """Return the temperature of the least log loss of left-out examples, drawn towards 1; 1 where none can be left out.

    Each example counts as often as it did for the posterior. Of examples in `groups` (n_samples,) whole groups are left
    out.
    """
    from scipy.optimize import minimize_scalar

    left_out = deal_groups(class_sizes, random_state, groups)
    if not left_out:
        return 1.0
    rows = torch.cat(left_out)
    means, variances = posterior.leave_out(left_out)
    logits = tempered_logits(means[rows], variances[rows], variance_factor, 1.0)
    # Less the logit of the truth, the log loss is a logsumexp alone, whatever the temperature.
    logits -= logits.gather(1, posterior.solve.class_of_column[rows, None])

    repeats = None if posterior.repeats is None else posterior.repeats[rows]

    def loss(log_temperature: float) -> float:
        losses = torch.logsumexp(logits * np.exp(-log_temperature), dim=1)
        summed = losses.sum() if repeats is None else losses @ repeats
        return float(summed) + 0.5 * (log_temperature / _DEVIATION) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-_FURTHEST, _FURTHEST), method="bounded").x))


def deal_groups(
    class_sizes: Sequence[int], random_state: np.random.RandomState, groups: np.ndarray | None = None
) -> list[Tensor]:
    """Return rows, sorted by class, in sets of at most one of each class; a class of one example is in no set.

    Many classes are spread over several sets, so that the blocks of the inverses stay small.

    With `groups` (n_samples,), a set has at most one group of each class, and each group whole: one of several classes
    is the only one of all of them in its set. A group that has all rows of a class is in no set, nor is one whose block
    would be too large to compute.
    """
    n_samples, n_classes = sum(class_sizes), len(class_sizes)
    at_most = max(2, int((_MAX_WORK / (n_samples * n_classes)) ** 0.5))
    if groups is not None and len(np.unique(groups)) < n_samples:
        codes = np.repeat(np.arange(n_classes), class_sizes)
        return _deal_whole_groups(Grouping.of(codes, groups), at_most, random_state)
    members = [random_state.permutation(size) + start for size, start in zip(class_sizes, _starts(class_sizes))]
    sets: list[Tensor] = []
    for rank in range(max(class_sizes)):
        rows = [of_class[rank] for of_class, size in zip(members, class_sizes) if size > max(rank, 1)]
        if rows:
            shuffled = torch.from_numpy(random_state.permutation(rows))
            sets += shuffled.tensor_split(-(-len(rows) // at_most))
    return sets


def _deal_whole_groups(grouping: Grouping, at_most: int, random_state: np.random.RandomState) -> list[Tensor]:
    """Put each group into the first set that has none of its classes, and room for it among `at_most` rows."""
    sizes, has = grouping.sizes, grouping.counts > 0
    largest = (_LARGEST_BLOCK / has.shape[1]) ** (1 / 3)
    in_turn = [group for group in grouping.in_turn(random_state) if sizes[group] <= largest]
    set_of_group = np.full(len(sizes), -1)
    classes, n_rows = np.zeros((len(in_turn), has.shape[1]), dtype=bool), np.zeros(len(in_turn), dtype=np.int64)
    for group in in_turn:
        fits = ~(classes & has[group]).any(axis=1) & ((n_rows + sizes[group] <= at_most) | (n_rows == 0))
        chosen = int(fits.argmax())  # one of so many sets is always empty
        set_of_group[group] = chosen
        classes[chosen] |= has[group]
        n_rows[chosen] += sizes[group]
    of_row = set_of_group[grouping.of_row]
    return [torch.from_numpy(np.flatnonzero(of_row == number)) for number in range(set_of_group.max(initial=-1) + 1)]


def _starts(class_sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(class_sizes)[:-1].tolist()]
