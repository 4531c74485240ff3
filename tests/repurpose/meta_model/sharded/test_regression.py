"""The optimum over blocks is that of scikit-learn's fit to all rows at once."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.sharded.folded_rows import with_ones
from repurpose.meta_model.sharded.regression import (
    as_logistic_regression,
    coefficients_of,
    minimize_in_blocks,
    moments_of,
)
from tests.repurpose.meta_model.sharded.examples import simulated

NO_SCALING = BlockScaling(np.zeros(11), np.ones(11))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_scikit_learn(n_classes: int, weighted: bool) -> None:
    features, _ = simulated(n_classes)
    X, y = features.matrix.astype(float), features.labels
    weights = np.random.RandomState(0).rand(len(y)) * 3 if weighted else None
    expected = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000).fit(X, y, weights)
    inputs = with_ones(X)

    def blocks():
        for start in range(0, len(y), 77):
            part = slice(start, start + 77)
            yield inputs[part], y[part], None if weights is None else weights[part]

    total = len(y) if weights is None else weights.sum()
    start, moments = np.zeros((12, n_classes)), moments_of(inputs[:100], None) * 6
    minimum = minimize_in_blocks(blocks, start, c=0.1, total_weight=total, moments=moments, tol=1e-8)
    found = as_logistic_regression(minimum, NO_SCALING, 0.1, 1e-8)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=2e-3)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=2e-4)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_coefficients_go_into_scaled_rows_and_back(n_classes: int) -> None:
    features, _ = simulated(n_classes)
    X = features.matrix.astype(float)
    scaling = BlockScaling.fit(features.matrix, features.indices_per_layer)
    model = LogisticRegression(max_iter=1000).fit(X, features.labels)
    W = coefficients_of(model, scaling)
    scores = with_ones(scaling.transform(features.matrix)) @ W
    scores = scores - scores.max(axis=1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-9)
