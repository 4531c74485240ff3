from math import log, sqrt
from typing import Any

import numpy as np
import pytest

from repurpose import Features, load
from repurpose.domain import TrAdaBoostRepurposer
from repurpose.domain.tradaboost_repurposer import error_bounds, reweighted
from tests.repurpose.domain.examples import quick, two_domains
from tests.repurpose.examples import identity_network, lr


def contradicting(n_wrong: int = 10) -> Any:
    """A source of which the first rows have another label than the target would give them, and the target."""
    (Xs, ys), _ = two_domains()
    ys = ys.copy()
    ys[:n_wrong] = (ys[:n_wrong] + 1) % 3
    return (Xs, ys), (Xs[10:30] + np.float32(0.01), ys[10:30])


@pytest.mark.parametrize("n_rounds", [1, 5])
def test_errors_weights_and_votes_are_those_of_the_paper(n_rounds: int) -> None:
    source, target = contradicting()
    repurposer = quick(TrAdaBoostRepurposer, n_rounds=n_rounds).repurpose(target, source_data=source)
    X, y = np.concatenate([source[0], target[0]]), np.concatenate([source[1], target[1]])
    weights, beta = np.ones(60), 1 / (1 + sqrt(2 * log(40) / n_rounds))
    votes = np.zeros((60, 3))
    for number in range(n_rounds):
        head = lr(random_state=0).repurpose(X, y, sample_weight=weights * 60 / weights.sum())
        answers = head.predict_label(X)
        wrong = answers != y
        error = min(max((weights * wrong)[40:].sum() / weights[40:].sum(), 1e-6), 0.998 * 2 / 3)
        assert np.isclose(repurposer.round_errors_[number], error)
        beta_t = error / (1 - error) / 2
        weights[:40] *= beta ** wrong[:40]
        weights[40:] *= beta_t ** -(wrong[40:].astype(float))
        if number + 1 >= n_rounds / 2:
            votes[np.arange(60), answers] += log(1 / beta_t)
    assert np.allclose(repurposer.source_weights_, weights[:40])
    expected = votes / votes.sum(axis=1, keepdims=True)
    assert np.allclose(repurposer.predict_probability(X), expected)
    assert np.array_equal(repurposer.predict_label(X), expected.argmax(axis=1))


def test_rows_that_contradict_the_target_lose_their_weight() -> None:
    source, target = contradicting()
    repurposer = quick(TrAdaBoostRepurposer).repurpose(target, source_data=source)
    weights = repurposer.source_weights_
    assert weights[:10].mean() < 0.5 * weights[10:].mean()


def test_of_two_classes_the_error_and_weights_are_bounded_and_moved_as_in_the_paper() -> None:
    assert error_bounds(0.0, 2) == 1e-6
    assert error_bounds(0.7, 2) == 0.499
    moved = reweighted(np.ones(4), np.array([1, 0, 1, 0], bool), np.array([0, 0, 1, 1], bool), 0.5, 0.25)
    assert moved.tolist() == [0.5, 1, 4, 1]


def test_it_is_saved_whole_and_judged_by_rows_of_the_target(tmp_path: Any) -> None:
    source, (X, y) = contradicting()
    repurposer = quick(TrAdaBoostRepurposer, n_rounds=3).repurpose(X, y, source_data=source)
    sets = repurposer.predict_set(X, 0.8)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert np.array_equal(loaded.predict_set(X, 0.8).members, sets.members)
    assert loaded.evaluate(X, y=y, n_bootstrap=3).accuracy == repurposer.score(X, y)
    assert loaded.predict_uncertainty(X).epistemic is None
    with pytest.raises(NotImplementedError, match="its heads vote"):
        loaded.predict_samples(X)


def test_a_single_label_of_the_target_is_enough_to_train_and_too_few_to_judge_by() -> None:
    source, (X, y) = contradicting()
    repurposer = quick(TrAdaBoostRepurposer, n_rounds=2).repurpose(X, [y[0], *[None] * 19], source_data=source)
    assert repurposer.n_target_labels_ == 1
    with pytest.warns(UserWarning, match=r"needs at least 4 rows to judge by, and there are 1"):
        assert repurposer.predict_set(X, 0.8).members.all()


def test_a_target_without_labels_is_refused() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match="TrAdaBoostRepurposer needs labels in the target"):
        quick(TrAdaBoostRepurposer).repurpose(X, source_data=source)
    with pytest.raises(ValueError, match="n_rounds must be a whole number"):
        quick(TrAdaBoostRepurposer, n_rounds=0).repurpose(X, source_data=source)


def test_groups_reach_the_head_of_every_round_and_the_folds() -> None:
    (Xs, ys), (X, y) = two_domains()
    groups = np.arange(40) % 8
    boosting = TrAdaBoostRepurposer(identity_network(), ["0"], head=lr(c="auto"), n_rounds=2, random_state=0)
    found = boosting.repurpose(X, y, source_data=(Xs, ys), groups=groups)
    assert np.array_equal(found.training_groups_[40:], groups)
    folds = found._fold_of_each_row()[40:]
    assert all(len(set(folds[groups == group])) == 1 for group in range(8))
    last = found.target_model_.heads[-1]
    assert not hasattr(last, "training_groups_")
    first = lr(c="auto", random_state=0).repurpose(
        Features({"0": found.training_features_}, found.classes_[found.training_codes_]),
        sample_weight=np.ones(80),
        groups=found.training_groups_,
    )
    one = TrAdaBoostRepurposer(identity_network(), ["0"], head=lr(c="auto"), n_rounds=1, random_state=0)
    assert one.repurpose(X, y, source_data=(Xs, ys), groups=groups).target_model_.heads[0].c_scores_ == first.c_scores_
