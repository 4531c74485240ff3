"""The losses that a ranking goes by, beside processes that never saw the rows, whose kernel few rows gave."""

import numpy as np
import pytest
import torch

from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.left_out import learn_to_judge, targets_to_judge
from repurpose.selection.ranking import task as module
from repurpose.selection.ranking.gp_loss import gp_losses
from repurpose.selection.ranking.task import N_DEALINGS, Task
from tests.repurpose.meta_model.gp.examples import naive_inverses, naive_targets


def test_losses_are_those_of_processes_without_the_row_averaged_over_five_dealings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TO_LEARN_FROM", 9)
    rng = np.random.RandomState(0)
    labels = np.array(["a"] * 7 + ["b"] * 6 + ["c"])
    rows = (rng.standard_normal((14, 3)) + (labels == "a")[:, None]).astype(np.float32)
    task = Task.of(rows, labels, None, 100, np.random.RandomState(1))
    assert (len(task.few), len(task.dealings), task.left_out.sum()) == (8, N_DEALINGS, 13)  # one class has one row
    rows = rows[task.order]
    found = gp_losses(rows, task)
    assert np.isnan(found).tolist() == (~task.left_out).tolist()

    x = rows - rows.mean(axis=0, dtype=np.float64)
    x = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    few = [x[task.few]]
    sizes_of_few = np.bincount(task.codes[task.few]).tolist()
    kernel = learn_to_judge(Products.between(few, few), sizes_of_few).kernel.between([x], [x])
    targets = targets_to_judge(3)
    mean = condition(kernel, task.sizes, targets).mean
    y, noise = naive_targets(targets, task.sizes)
    expected = np.zeros(14)
    for dealing in task.dealings:
        for group in dealing:
            others = np.setdiff1d(np.arange(14), group.numpy())
            inverses = naive_inverses(kernel[others][:, others], noise[others])
            for row in group.tolist():
                cross = kernel[row, others]
                means = mean + torch.einsum("j,cjk,kc->c", cross, inverses, y[others] - mean)
                variances = kernel[row, row] - torch.einsum("j,cjk,k->c", cross, inverses, cross)
                logits = means / torch.sqrt(1 + torch.pi / 8 * 0.1 * variances.mean())
                expected[row] -= torch.log_softmax(logits, dim=0)[task.codes[row]].item() / N_DEALINGS
    assert found[task.left_out] == pytest.approx(expected[task.left_out], rel=1e-6)
