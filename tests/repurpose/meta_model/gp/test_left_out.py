"""The losses of examples left out, beside processes that never saw them."""

import numpy as np
import pytest
import torch

from repurpose.meta_model.gp.calibration import deal_groups
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.left_out import learn_to_judge, left_out_losses, rows_by_class, targets_to_judge
from tests.repurpose.meta_model.gp.examples import KERNEL, SIZES, codes, naive_inverses, naive_targets, rows


def test_losses_are_those_of_a_process_conditioned_on_the_other_examples_at_the_same_kernel_and_mean() -> None:
    x, targets = rows(), targets_to_judge(len(SIZES))
    kernel = KERNEL.matrix(Products.between(x, x))
    posterior = condition(kernel, SIZES, targets)
    groups = deal_groups(SIZES, np.random.RandomState(0))
    losses = left_out_losses(posterior, groups)
    y, noise = naive_targets(targets)
    expected = []
    for group in groups:
        others = np.setdiff1d(np.arange(sum(SIZES)), group.numpy())
        inverses = naive_inverses(kernel[others][:, others], noise[others])
        for row in group.tolist():
            cross = kernel[row, others]
            means = posterior.mean + torch.einsum("j,cjk,kc->c", cross, inverses, y[others] - posterior.mean)
            variances = kernel[row, row] - torch.einsum("j,cjk,k->c", cross, inverses, cross)
            # MacKay's approximation of an average softmax, with a tenth of the mean variance over the classes
            logits = means / torch.sqrt(1 + torch.pi / 8 * 0.1 * variances.mean())
            expected.append(-torch.log_softmax(logits, dim=0)[codes()[row]].item())
    assert losses == pytest.approx(expected, rel=1e-8)


def test_the_kernel_that_judges_is_learned_by_thirty_evaluations_at_most() -> None:
    x = rows()
    learned = learn_to_judge(Products.between(x, x), SIZES)
    assert learned.n_evaluations <= 31  # L-BFGS ends the line search that it is in
    start = condition(
        KERNEL.start(Products.between(x, x), 1.0).matrix(Products.between(x, x)), SIZES, targets_to_judge(4)
    )
    assert learned.posterior.log_evidence > start.log_evidence


@pytest.mark.parametrize("at_most", [12, 100])
def test_the_rows_to_judge_by_depend_neither_on_the_order_nor_on_the_names(at_most: int) -> None:
    rng = np.random.RandomState(0)
    matrix, labels = rng.standard_normal((40, 3)), rng.randint(3, size=40)
    order, sorted_codes = rows_by_class(matrix, labels, at_most, np.random.RandomState(1))
    assert len(order) <= min(at_most, 40)
    assert (np.diff(sorted_codes) >= 0).all()
    shuffled, renamed = rng.permutation(40), np.array([2, 0, 1])
    other, codes_of_other = rows_by_class(
        matrix[shuffled], renamed[labels][shuffled], at_most, np.random.RandomState(1)
    )
    assert (matrix[order] == matrix[shuffled][other]).all()
    assert (sorted_codes == codes_of_other).all()
    assert len(np.unique(labels[order])) == 3
