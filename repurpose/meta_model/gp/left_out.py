"""What a Gaussian process says of examples left out, in closed form: losses judge layers, probabilities judge labels.

One example of each class is left out at a time, at the kernel that was learned from all (`calibration.deal_groups`). So
the few numbers of the kernel have seen the example, and the latent functions have not.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from repurpose.data.folds import order_by_content
from repurpose.meta_model.gp.calibration import deal_groups
from repurpose.meta_model.gp.evidence import Posterior
from repurpose.meta_model.gp.fitting import LearnedKernel, learn_kernel
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.model import VARIANCE_FACTOR, tempered_logits
from repurpose.meta_model.gp.subset import stratified_subset
from repurpose.meta_model.gp.targets import OTHERS, DirichletTargets

__all__ = ["learn_to_judge", "left_out_losses", "left_out_probabilities", "rows_by_class", "targets_to_judge"]

_MAX_EVALUATIONS = 30  # of the evidence: more hardly change what is said of examples left out
_N_DEALINGS = 5  # which examples are left out together is chance, and changes what is said of each a little


def rows_by_class(
    matrix: np.ndarray,
    codes: np.ndarray,
    at_most: int,
    random_state: np.random.RandomState,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to judge by, sorted by class, and their classes as 0..n_classes-1: a stratified subset of many.

    Neither the order of the rows (n_samples, n_features) nor the names of the classes changes which rows these are.
    """
    # By content, so that neither the order of the data nor the names of classes reach the random subset.
    order, codes = order_by_content(matrix, codes, weights)
    by_class = np.argsort(codes, kind="stable")
    few = by_class[stratified_subset(codes[by_class], at_most, random_state)]
    return order[few], codes[few]


def targets_to_judge(n_classes: int) -> DirichletTargets:
    """Return the targets of `GpRepurposer` for so many classes."""
    return DirichletTargets.of(OTHERS / n_classes)


def learn_to_judge(products: Products, sizes: Sequence[int], repeats: Tensor | None = None) -> LearnedKernel:
    """Learn the kernel of rows sorted by class, each counted `repeats` (n_samples,) times, as far as judging needs."""
    targets = targets_to_judge(len(sizes))
    return learn_kernel(products, sizes, targets, repeats, max_function_evaluations=_MAX_EVALUATIONS)


def left_out_losses(posterior: Posterior, groups: Sequence[Tensor]) -> np.ndarray:
    """Compute the log loss (nats) of each example that is left out with its group: float64, in the order of the groups.

    `groups` are rows of examples, int64 tensors that together hold every row once at most.
    """
    rows = torch.cat(list(groups))
    means, variances = posterior.leave_out(groups)
    logits = tempered_logits(means[rows], variances[rows], VARIANCE_FACTOR, temperature=1.0)
    truth = posterior.solve.class_of_column[rows]
    return torch.nn.functional.cross_entropy(logits, truth, reduction="none").numpy()


def left_out_probabilities(
    posterior: Posterior,
    variance_factor: float,
    temperature: float,
    random_state: np.random.RandomState,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Compute class probabilities of each example as if it had not been seen: float64 (n_samples, n_classes).

    One example of each class is left out at a time, of examples in `groups` (n_samples,) one group of each; averaged
    over several ways to deal them. NaN for what cannot be left out. Rows are sorted by class, as in the posterior.
    """
    sizes = torch.bincount(posterior.solve.class_of_column, minlength=posterior.solve.n_classes).tolist()
    dealt = [deal_groups(sizes, random_state, groups) for _ in range(_N_DEALINGS)]
    summed, n_times = torch.zeros_like(posterior.weights), torch.zeros(len(posterior.weights), 1).double()
    for rows, means, variances in posterior.each_left_out([rows for dealing in dealt for rows in dealing]):
        logits = tempered_logits(means, variances, variance_factor, temperature)
        summed.index_add_(0, rows, torch.softmax(logits, dim=1))
        n_times.index_add_(0, rows, torch.ones(len(rows), 1).double())
    return (summed / n_times).numpy()
