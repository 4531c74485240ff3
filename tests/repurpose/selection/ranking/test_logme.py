"""LogME beside a direct search for the largest evidence of a Gaussian, written out with its whole covariance."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from repurpose.selection.ranking.logme import log_me


def searched(rows: np.ndarray, codes: np.ndarray) -> float:
    found = []
    for code in range(codes.max() + 1):
        targets = (codes == code).astype(float)

        def loss(logarithms: np.ndarray, targets: np.ndarray = targets) -> float:
            prior, noise = np.exp(logarithms)
            covariance = prior * rows @ rows.T + noise * np.eye(len(rows))
            return -multivariate_normal(np.zeros(len(rows)), covariance).logpdf(targets)

        starts = [(-2.0, -2.0), (-5.0, -1.0), (0.0, -3.0)]
        found.append(min(minimize(loss, start, method="Nelder-Mead", tol=1e-9).fun for start in starts))
    return -float(np.mean(found)) / len(rows)


@pytest.mark.parametrize("shape", [(30, 5), (12, 20)])
def test_the_evidence_is_the_largest_that_a_direct_search_finds(shape: tuple[int, int]) -> None:
    rng = np.random.RandomState(0)
    codes = np.arange(shape[0]) % 3
    rows = rng.standard_normal(shape) + rng.standard_normal((3, shape[1]))[codes]
    assert log_me(rows, codes) == pytest.approx(searched(rows, codes), rel=1e-6)


def test_the_scale_of_features_does_not_matter_and_better_ones_score_higher() -> None:
    rng = np.random.RandomState(0)
    codes = np.arange(60) % 3
    noise, means = rng.standard_normal((60, 8)), rng.standard_normal((3, 8))
    score = log_me(noise + means[codes], codes)
    assert log_me(1e3 * (noise + means[codes]), codes) == pytest.approx(score, rel=1e-6)
    assert score > log_me(noise, codes)


def test_features_that_say_nothing_at_all_have_the_evidence_of_noise() -> None:
    codes = np.array([0, 1, 1, 1])
    of_class = [n / 4 for n in (1, 3)]  # the mean square of the targets, which is the best variance of the noise
    expected = np.mean([-(np.log(2 * np.pi * variance) + 1) / 2 for variance in of_class])
    assert log_me(np.zeros((4, 3)), codes) == pytest.approx(expected)
