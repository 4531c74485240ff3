"""A quadratic stands for the log loss of rows: exactly in its first two derivatives where these are of one row."""

import numpy as np

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.sharded.folded_rows import FoldedRows, loss_and_gradient

RNG = np.random.RandomState(0)
NONE = FoldedRows.none(BlockScaling(np.zeros(3), np.ones(3)), 4)
W = RNG.standard_normal((4, 4))


def test_its_gradient_where_rows_were_folded_in_is_theirs_whatever_was_folded_in_before() -> None:
    inputs, codes, weights = RNG.standard_normal((30, 4)), RNG.randint(4, size=30), RNG.rand(30)
    folded = NONE.joined_by(inputs, codes, weights, W)
    np.testing.assert_allclose(folded.value_and_gradient(W)[1], loss_and_gradient(inputs, codes, weights, W)[1])
    elsewhere = W + 0.1
    before = folded.value_and_gradient(elsewhere)[1]
    twice = folded.joined_by(inputs, codes, None, elsewhere)
    expected = before + loss_and_gradient(inputs, codes, None, elsewhere)[1]
    np.testing.assert_allclose(twice.value_and_gradient(elsewhere)[1], expected)
    assert twice.count == weights.sum() + 30


def test_of_one_row_it_is_the_log_loss_to_second_order() -> None:
    inputs, codes = np.repeat(RNG.standard_normal((1, 4)), 5, axis=0), np.array([0, 1, 1, 2, 3])
    folded = NONE.joined_by(inputs, codes, None, W)
    direction = RNG.standard_normal(W.shape)
    at_start = loss_and_gradient(inputs, codes, None, W)[0]
    errors = []
    for step in (1e-2, 5e-3):
        true = loss_and_gradient(inputs, codes, None, W + step * direction)[0] - at_start
        errors.append(abs(folded.value_and_gradient(W + step * direction)[0] - true))
    assert errors[0] < 1e-4
    assert 6 < errors[0] / errors[1] < 10  # 2^3: what is left is of third order


def test_gradients_are_those_of_the_losses() -> None:
    inputs, codes, weights = RNG.standard_normal((9, 4)), RNG.randint(4, size=9), RNG.rand(9)
    gradient = loss_and_gradient(inputs, codes, weights, W)[1]
    step = np.zeros_like(W)
    step[1, 2] = 1e-6
    up, down = (loss_and_gradient(inputs, codes, weights, W + sign * step)[0] for sign in (1, -1))
    np.testing.assert_allclose((up - down) / 2e-6, gradient[1, 2], rtol=1e-6)
