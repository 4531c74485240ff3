"""The machines behind `SvmRepurposer`."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC

from repurpose.meta_model import svm
from tests.repurpose.examples import blobs, repeated


def of_norm_1(X: np.ndarray) -> np.ndarray:
    centred = X.astype(np.float64) - X.mean(axis=0)
    return centred / np.sqrt(np.square(centred).sum(axis=1).mean())


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_pairs_give_the_mean_score_of_a_class_against_each_of_the_others(n_classes: int) -> None:
    X, y = blobs(90, n_classes=n_classes)
    X = of_norm_1(X)
    kernel, weights = X[:60] @ X[:60].T, np.random.default_rng(0).uniform(0.5, 2, 60)
    expected = np.zeros((30, n_classes))
    for first, second in combinations(range(n_classes), 2):
        kept = np.isin(y[:60], (first, second))
        machine = SVC(C=1.0, kernel="linear", tol=1e-6).fit(X[:60][kept], y[:60][kept] == first, weights[kept])
        expected[:, first] += machine.decision_function(X[60:]) / (n_classes - 1)
        expected[:, second] -= machine.decision_function(X[60:]) / (n_classes - 1)
    scores = svm.fit_pairs(kernel, y[:60], n_classes, 1.0, weights).scores(X[60:] @ X[:60].T)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=5e-3)  # libsvm stops at 1e-3


@pytest.mark.parametrize("fit", [svm.fit_against_rest, svm.fit_pairs])
def test_rows_that_count_several_times_give_the_machines_of_repeated_ones(
    fit: Callable[..., svm.DualCoefficients],
) -> None:
    X, y, weights, again = repeated()
    X = of_norm_1(X)
    there, twice = X[weights > 0], X[again]
    found, once = (
        fit(there @ there.T, y[weights > 0], 3, 1.0, counts).scores(X @ there.T)
        for counts in (weights[weights > 0].astype(float), None)
    )
    expected = fit(twice @ twice.T, y[again], 3, 1.0, None).scores(X @ twice.T)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)
    assert np.abs(found - once).max() > 0.05


def test_blended_machines_give_the_weighted_mean_of_the_scores() -> None:
    first, second = (svm.DualCoefficients(np.full((2, 3), value), np.array([value, 0, 0])) for value in (1.0, 5.0))
    kernel = np.ones((1, 2))
    expected = 0.75 * first.scores(kernel) + 0.25 * second.scores(kernel)
    assert np.allclose(first.blended(second, 0.25).scores(kernel), expected)
    assert np.allclose(first.of_classes(np.array([2, 0, 1])).scores(kernel), first.scores(kernel)[:, [2, 0, 1]])


@pytest.mark.parametrize("fit", [svm.fit_against_rest, svm.fit_pairs])
def test_machines_that_do_not_converge_say_so_with_c(
    fit: Callable[..., svm.DualCoefficients], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svm, "_MAX_ITERATIONS", 3)
    rows, codes = np.random.RandomState(0).randn(40, 2), np.arange(40) % 3
    with pytest.warns(
        ConvergenceWarning, match=r"did not converge with c=1e\+06: the classes overlap; give a smaller c"
    ):
        machines = fit(rows @ rows.T, codes, 3, 1e6, None)
    assert np.isfinite(machines.weights).all()
