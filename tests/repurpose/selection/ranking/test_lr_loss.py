"""Losses of held-out rows by logistic regression, beside refits and beside the Newton step done by hand."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from repurpose.data.scaling import BlockScaling
from repurpose.selection.ranking.lr_loss import approximate_leave_one_out_losses, five_fold_losses

rng = np.random.RandomState(0)


def problem(n_classes: int, n_features: int, n_rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    codes = np.arange(n_rows) % n_classes
    return rng.standard_normal((n_rows, n_features)) + rng.standard_normal((n_classes, n_features))[codes], codes


def scaled(rows: np.ndarray) -> np.ndarray:
    return BlockScaling.fit(rows, {"all": np.arange(rows.shape[1])}).transform(rows)


def fitted(rows: np.ndarray, codes: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(rows, codes)


@pytest.mark.parametrize(("n_classes", "n_features"), [(2, 4), (3, 4), (3, 50)])
def test_five_folds_are_five_fits(n_classes: int, n_features: int) -> None:
    rows, codes = problem(n_classes, n_features)
    folds = np.arange(30) // 3 % 5
    folds[0] = -1
    losses = five_fold_losses(rows, codes, folds)
    assert np.isnan(losses[0])
    assert not np.isnan(losses[1:]).any()
    for row in (1, 17):
        training = folds != folds[row]
        log_probabilities = fitted(scaled(rows)[training], codes[training]).predict_log_proba(scaled(rows)[[row]])
        assert losses[row] == pytest.approx(-log_probabilities[0, codes[row]], rel=1e-3)


@pytest.mark.parametrize(("n_classes", "n_features"), [(2, 3), (3, 3), (3, 50)])
def test_one_step_is_close_to_as_many_refits_as_there_are_rows(n_classes: int, n_features: int) -> None:
    rows, codes = problem(n_classes, n_features)
    exact = []
    for row in range(30):
        model = fitted(np.delete(scaled(rows), row, axis=0), np.delete(codes, row))
        exact.append(-model.predict_log_proba(scaled(rows)[[row]])[0, codes[row]])
    losses = approximate_leave_one_out_losses(rows, codes)
    in_sample = -fitted(scaled(rows), codes).predict_log_proba(scaled(rows))[np.arange(30), codes]
    assert losses.mean() == pytest.approx(np.mean(exact), rel=0.1)
    assert abs(losses.mean() - np.mean(exact)) < 0.2 * (np.mean(exact) - in_sample.mean())


def test_a_step_is_newtons_on_the_objective_without_the_group() -> None:
    """By the full derivative of the objective, whose Hessian is taken numerically."""
    rows, codes = problem(3, 2, 12)
    x = np.hstack([scaled(rows), np.ones((12, 1))])
    groups = np.array([0, 0, 0, *range(1, 10)])
    model = fitted(scaled(rows), codes)
    start = np.hstack([model.coef_, model.intercept_[:, None]])

    def gradient(flat: np.ndarray, kept: np.ndarray) -> np.ndarray:
        weights = flat.reshape(3, 3)
        errors = softmax(x[kept] @ weights.T, axis=1) - np.eye(3)[codes[kept]]
        return (errors.T @ x[kept] + weights * [1, 1, 0]).ravel()

    kept = groups != 0
    step = 1e-5
    axes = step * np.eye(9)
    hessian = [(gradient(start.ravel() + a, kept) - gradient(start.ravel() - a, kept)) / (2 * step) for a in axes]
    moved = start.ravel() - np.linalg.pinv(hessian, rcond=1e-6) @ gradient(start.ravel(), kept)
    log_probabilities = np.log(softmax(x[~kept] @ moved.reshape(3, 3).T, axis=1))
    expected = -log_probabilities[np.arange(3), codes[~kept]]
    assert approximate_leave_one_out_losses(rows, codes, groups)[~kept] == pytest.approx(expected, rel=2e-3)


def test_a_hessian_that_is_too_large_is_refused_with_the_way_out() -> None:
    rows = rng.standard_normal((500, 400))
    with pytest.raises(ValueError, match=r'4,010 coefficients.*lr="five-fold"'):
        approximate_leave_one_out_losses(rows, np.arange(500) % 10)
