"""A fit that starts where another one ended starts with its logits, whatever became of the classes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.row_space import rotate_into_row_space
from repurpose.meta_model.warm_start import WarmStart
from tests.repurpose.examples import blobs

X, Y = blobs(30, n_features=4, n_classes=3)


def logits_at_the_start(start: WarmStart, *, rotated: bool) -> np.ndarray:
    scaling = BlockScaling.fit(X, {"0": np.arange(4)})
    rows, basis = scaling.transform(X), None
    if rotated:
        rows, basis = rotate_into_row_space(np.hstack([rows, np.zeros((30, 40))]))
        basis = basis[:4]
    model = LogisticRegression()
    start.give_to(model, scaling, basis)
    assert model.warm_start
    return rows @ model.coef_.T + model.intercept_


@pytest.mark.parametrize("rotated", [False, True])
def test_logits_of_classes_that_stay_are_those_of_before_and_new_classes_start_at_zero(rotated: bool) -> None:
    model = LogisticRegression().fit(X, Y)
    found = logits_at_the_start(WarmStart.of(model, np.array([0, 2, 3]), 4), rotated=rotated)
    np.testing.assert_allclose(found[:, [0, 2, 3]], model.decision_function(X.astype(float)), rtol=0, atol=1e-6)
    assert not found[:, 1].any()


def test_two_classes_have_one_logit_the_difference_of_two() -> None:
    three, two = LogisticRegression().fit(X, Y), LogisticRegression().fit(X[Y < 2], Y[Y < 2])
    fewer = logits_at_the_start(WarmStart.of(three, np.array([0, -1, 1]), 2), rotated=False)
    before = three.decision_function(X.astype(float))
    np.testing.assert_allclose(fewer[:, 0], before[:, 2] - before[:, 0], rtol=0, atol=1e-9)
    more = logits_at_the_start(WarmStart.of(two, np.array([0, 1]), 3), rotated=False)
    np.testing.assert_allclose(more[:, 1] - more[:, 0], two.decision_function(X.astype(float)), rtol=0, atol=1e-9)
