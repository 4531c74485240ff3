"""The regularised H-score beside its formula, with the covariance of scikit-learn's LedoitWolf."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from repurpose.selection.ranking.h_score import regularised_h_score


@pytest.mark.parametrize("shape", [(60, 5), (12, 30)])
def test_the_score_is_the_formula_of_the_paper(shape: tuple[int, int]) -> None:
    rng = np.random.RandomState(0)
    codes = np.arange(shape[0]) % 3
    rows = rng.standard_normal(shape) * np.linspace(0.1, 3, shape[1]) + rng.standard_normal((3, shape[1]))[codes]
    shrunk = LedoitWolf().fit(rows)
    of_means = np.stack([rows[codes == code].mean(axis=0) for code in range(3)])[codes]
    between = np.cov(of_means, rowvar=False, bias=True)
    expected = np.trace(np.linalg.inv(shrunk.covariance_) @ ((1 - shrunk.shrinkage_) * between))
    assert 0 < shrunk.shrinkage_ < 1
    assert regularised_h_score(rows, codes) == pytest.approx(expected, rel=1e-9)


def test_features_that_never_vary_score_nothing() -> None:
    assert regularised_h_score(np.ones((6, 3)), np.arange(6) % 2) == 0.0


def test_classes_that_are_points_score_one_less_than_their_number() -> None:
    codes = np.arange(3000) % 3
    rows = np.eye(3)[codes] + 1e-6 * np.random.RandomState(0).standard_normal((3000, 3))
    assert regularised_h_score(rows, codes) == pytest.approx(2, rel=0.01)
