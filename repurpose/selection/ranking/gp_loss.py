"""The log loss of a Gaussian process on rows left out, in closed form and at one kernel: what a ranking goes by."""

import numpy as np
import torch

from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.left_out import learn_to_judge, left_out_losses, targets_to_judge
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.subset import class_sizes
from repurpose.selection.ranking.task import Task
from repurpose.threads import threads_for

__all__ = ["gp_losses"]


def gp_losses(rows: np.ndarray, task: Task) -> np.ndarray:
    """Return the log loss (nats) of each row left out, averaged over the dealings: (n_rows,), NaN for rows never so.

    `rows` (n_rows, n_features) are raw features in the order of the task. One kernel is learned, from 300 rows at most,
    and one factorisation of all rows serves every dealing: n_rows^3 operations.
    """
    with threads_for(len(rows)):
        scaled = LayerRows.fit(rows, {"": np.arange(rows.shape[1])}, unit_norm=True).transform(rows)
        few = [layer[task.few] for layer in scaled]
        learned = learn_to_judge(Products.between(few, few), class_sizes(task.codes[task.few]))
        posterior = learned.posterior
        if len(task.few) < len(rows):
            kernel = learned.kernel.between(scaled, scaled)
            posterior = condition(kernel, task.sizes, targets_to_judge(len(task.sizes)))
        losses = np.full(len(rows), np.nan)
        losses[task.left_out] = 0.0
        for dealing in task.dealings:
            losses[torch.cat(dealing).numpy()] += left_out_losses(posterior, dealing) / len(task.dealings)
    return losses
