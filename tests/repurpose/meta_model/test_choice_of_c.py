import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from repurpose.data.folds import deal_balanced_folds
from repurpose.meta_model.choice_of_c import GRID, choose_c, gradient_tolerance
from tests.repurpose.examples import blobs


def new_rng(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def test_the_grid_is_documented_half_decades() -> None:
    assert (GRID[0], GRID[-1], len(GRID)) == (1e-4, 10.0, 11)
    assert np.allclose(np.diff(np.log10(GRID)), 0.5, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_the_mean_log_loss_of_held_out_rows(n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    X = X.astype(np.float64)
    weights = np.linspace(0.5, 1.5, 60)
    folds = deal_balanced_folds(y, new_rng())
    choice = choose_c(X, y, weights, LogisticRegression(tol=1e-9, max_iter=10_000), folds, n_jobs=None)
    for c, score in choice.scores.items():
        probabilities = np.empty((60, n_classes))
        for fold in range(5):
            train, test = folds != fold, folds == fold
            model = LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(X[train], y[train], weights[train])
            probabilities[test] = model.predict_proba(X[test])
        assert score == pytest.approx(log_loss(y, probabilities, sample_weight=weights), abs=1e-5)


def test_where_rows_say_nothing_the_prior_chooses_one() -> None:
    codes = np.arange(20) % 2
    choice = choose_c(np.zeros((20, 3)), codes, None, LogisticRegression(), np.arange(20) // 4, n_jobs=None)
    assert choice.c == 1.0


@pytest.mark.parametrize("repeats", [1, 200])
def test_the_summed_loss_and_a_normal_prior_of_log_c_choose(repeats: int) -> None:
    """Few rows stay near 1; of as many more as `repeats` says the same losses decide alone."""
    X, y = blobs(n_classes=3)
    y[::3] = np.random.default_rng(0).permutation(y[::3])  # so that a small C is best
    weights = np.full(60, float(repeats))
    model = LogisticRegression(tol=1e-6, max_iter=10_000)
    X *= 16 / repeats**0.5  # so that the penalty counts for the same beside the losses
    choice = choose_c(X, y, weights, model, deal_balanced_folds(y, new_rng()), n_jobs=None)
    costs = {c: 60 * repeats * loss + np.log(c) ** 2 / 2 for c, loss in choice.scores.items()}
    assert choice.c == min(costs, key=costs.__getitem__)
    least = min(choice.scores, key=choice.scores.__getitem__)
    assert choice.c == least if repeats > 1 else choice.c > least


def test_the_tolerance_shrinks_where_the_penalty_is_weak() -> None:
    assert gradient_tolerance(1e-4, 1e-4, 100) == 1e-4
    assert gradient_tolerance(1e-4, 100.0, 100) == pytest.approx(1e-6)


def test_a_plateau_at_the_loss_of_guessing_does_not_end_the_search() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 20))
    y = (X[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(int)
    X[:, 3] *= 100  # one column without meaning is most of each row
    X *= 16 / np.sqrt((X**2).sum(axis=1).mean())
    folds = deal_balanced_folds(y, new_rng())
    choice = choose_c(X, y, None, LogisticRegression(max_iter=5000), folds, n_jobs=None)
    assert choice.c >= 1.0
    assert choice.scores[choice.c] < 0.9 * choice.scores[1e-4]


def test_the_search_ends_where_the_loss_clearly_rises() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 40)) * 4, np.arange(60) % 2
    folds = deal_balanced_folds(y, new_rng())
    choice = choose_c(X, y, None, LogisticRegression(max_iter=5000), folds, n_jobs=None)
    assert len(choice.scores) < len(GRID)
    assert min(list(choice.scores.values())[-2:]) > 1.05 * choice.scores[choice.c]
