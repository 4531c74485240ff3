"""The scores that `rank_sources` gives a layer by its labelled rows, and cross-validation of the head itself."""

from collections.abc import Callable, Mapping

import numpy as np

from model_handler import Features
from repurpose import LrRepurposer
from repurpose.selection.ranking.class_means import class_mean_accuracy
from repurpose.selection.ranking.gp_loss import gp_losses
from repurpose.selection.ranking.h_score import regularised_h_score
from repurpose.selection.ranking.logme import log_me
from repurpose.selection.ranking.lr_loss import approximate_leave_one_out_losses, five_fold_losses
from repurpose.selection.ranking.task import Task

__all__ = ["CROSS_VALIDATION", "GP", "LOSSES", "SCORES", "cross_validated"]

GP, CROSS_VALIDATION = "GP, left out", "5-fold cross-validation"
_FIVE_FOLDS, _ONE_STEP = "LR at C = 1, five folds", "LR at C = 1, one Newton step"
LOSSES = (GP, _FIVE_FOLDS, _ONE_STEP, CROSS_VALIDATION)  # the smaller, the better

SCORES: Mapping[str, Callable[[np.ndarray, Task], float]] = {
    GP: lambda rows, task: np.nanmean(gp_losses(rows, task)),
    _FIVE_FOLDS: lambda rows, task: np.nanmean(five_fold_losses(rows, task.codes, task.folds)),
    _ONE_STEP: lambda rows, task: approximate_leave_one_out_losses(rows, task.codes).mean(),
    "LogME": lambda rows, task: log_me(rows, task.codes),
    "H-score": lambda rows, task: regularised_h_score(rows, task.codes),
    "nearest class mean": lambda rows, task: class_mean_accuracy(rows, task.codes),
}


def cross_validated(features: Features, task: Task) -> float:
    """Return the log loss (nats) of `LrRepurposer` by the folds of the task, its C chosen anew in each.

    Features are in the order of the task, whose numbers of classes are not those of the labels.
    """
    losses = np.full(len(features), np.nan)
    for fold in range(task.folds.max() + 1):
        held_out = task.folds == fold
        head = LrRepurposer("efficientnet-lite0", random_state=fold, verbose=False)
        probabilities = head.repurpose(features[~held_out]).predict_probability(features[held_out])
        columns = np.searchsorted(head.classes_, features.labels[held_out])
        of_truth = probabilities[np.arange(held_out.sum()), columns]
        losses[held_out] = -np.log(np.maximum(of_truth, 1e-15))
    return float(np.nanmean(losses))
