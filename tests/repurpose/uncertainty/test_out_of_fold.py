"""Heads of the folds are what the same Repurposer learns from the other rows, of which whole groups are held out."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from repurpose import Features, GpRepurposer, LrRepurposer, SvmRepurposer, load
from repurpose.uncertainty.comparisons import ReferenceRows
from tests.repurpose.examples import blob_features, identity_network, lr
from tests.repurpose.grouped_rows import grouped_features, grouped_rows


def test_heads_of_folds_are_trained_with_the_seed() -> None:
    found = SvmRepurposer(identity_network(), ["0"], c=0.1, random_state=2).repurpose(blob_features())
    first = next(found.heads_of_folds())
    kept = found.training_rows()[found.folds_ != 0]
    features = Features({"0": kept.matrix}, found.classes_[kept.codes])
    by_hand, other = (
        SvmRepurposer(identity_network(), ["0"], c=0.1, random_state=seed).repurpose(features) for seed in (2, 0)
    )
    assert np.array_equal(first.held_out, np.flatnonzero(found.folds_ == 0))
    assert first.head.sharpness_ == by_hand.sharpness_ != other.sharpness_


def test_what_a_search_chose_once_serves_all_folds() -> None:
    found = lr(c="auto", random_state=0).repurpose(blob_features())
    assert {each.head.c_ for each in found.heads_of_folds()} == {found.c_}
    assert not any("c_scores_" in learned for learned in found.fold_heads_)


def head_of(**options: Any) -> LrRepurposer:
    return LrRepurposer(identity_network(), ["0"], **{"c": 0.1, "random_state": 0, **options})


def p_values_by_hand(
    head: Any, features: Features, groups: np.ndarray, folds: np.ndarray, new: np.ndarray
) -> np.ndarray:
    """Refit without each fold; each group counts as one row (Lee, Barber and Willett 2023), written out."""
    at_least = np.zeros((len(new), 2))
    for fold in range(folds.max() + 1):
        out = folds == fold
        refit = clone(head).repurpose(features[~out])
        own = 1 - refit.predict_probability(features[out])[np.arange(out.sum()), np.asarray(features.labels)[out]]
        scores = 1 - refit.predict_probability(new)
        for group in np.unique(groups[out]):
            at_least += (own[groups[out] == group][:, None, None] >= scores).mean(axis=0)
    return (1 + at_least) / (1 + len(np.unique(groups)))


def test_sets_are_those_of_refits_without_whole_groups() -> None:
    features, groups = grouped_features(3)
    new = grouped_rows(4)[0][:30]
    found = head_of().repurpose(features, groups=groups)
    for coverage in (0.6, 0.8, 0.9):
        sets = found.predict_set(new, coverage, allow_empty=True)
        by_hand = p_values_by_hand(head_of(), features, groups, found.folds_, new)
        assert np.array_equal(sets.members, by_hand > 1 - coverage + 1e-9)
    assert all(len(set(found.folds_[groups == group])) == 1 for group in set(groups))
    assert (found.folds_ >= 0).all()


@pytest.mark.parametrize("cls", [SvmRepurposer, GpRepurposer])
def test_heads_of_folds_choose_without_splitting_groups_too(cls: Any) -> None:
    features, groups = grouped_features(3, n_groups=8, per_group=4)
    head = cls(identity_network(), ["0"], random_state=0)
    found = clone(head).repurpose(features, groups=groups)
    for fold in found.heads_of_folds():
        kept = np.setdiff1d(np.arange(32), fold.held_out)
        assert not set(groups[kept]) & set(groups[fold.held_out])
        by_hand = clone(head).repurpose(features[kept], groups=groups[kept])
        rows = features.matrix[fold.held_out]
        assert np.array_equal(fold.head.head_probabilities(rows), by_hand.head_probabilities(rows))


def test_coverage_is_kept_for_new_groups_and_without_groups_it_is_not() -> None:
    covered = []
    for seed in range(8):
        features, groups = grouped_features(seed, n_groups=20, per_group=5)
        new = grouped_features(seed + 100, n_groups=60, per_group=1)[0]
        truth = np.arange(60), np.asarray(new.labels)
        found = [head_of(c=1.0).repurpose(features, groups=given) for given in (groups, None)]
        covered.append([each.predict_set(new, 0.8, allow_empty=True).members[truth].mean() for each in found])
    with_groups, without = np.transpose(covered)
    # Over 40 seeds .82 and .63, with standard errors of .02.
    assert with_groups.mean() > 0.8 - 2 * with_groups.std(ddof=1) / 8**0.5
    assert without.mean() < 0.8 - 2 * without.std(ddof=1) / 8**0.5
    difference = with_groups - without
    assert difference.mean() > 3 * difference.std(ddof=1) / 8**0.5


def test_a_row_like_none_of_its_group_looks_strange_by_the_other_groups() -> None:
    features, groups = grouped_features(0)
    with_groups, without = (head_of().repurpose(features, groups=given) for given in (groups, None))
    new = grouped_rows(50, n_groups=40, per_group=1)[0]  # of the same kind, in groups that were never seen
    strange = [np.mean(each.unfamiliarity_p_value(new, "knn") <= 0.1) for each in (with_groups, without)]
    assert strange[0] <= 0.2 < 0.8 < strange[1]


def test_groups_are_saved_and_answers_after_loading_are_the_same(tmp_path: Any) -> None:
    features, groups = grouped_features(1)
    found = head_of().repurpose(features, groups=[f"patient {group}" for group in groups])
    found.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.training_groups_, found.training_groups_)
    assert np.array_equal(loaded._fold_of_each_row(), found._fold_of_each_row())
    assert not hasattr(clone(found).repurpose(features), "training_groups_")
    assert not any("training_groups_" in learned for learned in vars(found).get("fold_heads_", []))


def test_temperature_is_calibrated_by_heads_that_did_not_see_the_group() -> None:
    features, groups = grouped_features(2)
    with_groups, without = (head_of(c=1.0).repurpose(features, groups=given).calibrate() for given in (groups, None))
    assert with_groups.calibration_.temperature > 1.2 * without.calibration_.temperature


def test_rows_given_to_conformalize_count_by_groups() -> None:
    features, _ = grouped_features(0)
    known, groups = grouped_features(5, n_groups=9)
    new = grouped_rows(6)[0][:20]
    found = head_of().repurpose(features).conformalize(known, groups=groups)
    own = 1 - found.predict_probability(known)[np.arange(len(known)), np.asarray(known.labels)]
    scores = 1 - found.predict_probability(new)
    shares = [(own[groups == group][:, None, None] >= scores).mean(axis=0) for group in range(9)]
    members = (1 + sum(shares)) / 10 > 0.3 + 1e-9
    assert np.array_equal(found.predict_set(new, 0.7, allow_empty=True).members, members)
    with pytest.warns(UserWarning, match="a coverage of 0.95 needs at least 19 groups to judge by, and there are 9"):
        assert (found.predict_set(new, 0.95).sizes == 2).all()
    with pytest.raises(ValueError, match="the data have 54 rows and groups has 3"):
        found.conformalize(known, groups=[1, 2, 3])
    assert not hasattr(found.conformalize(known), "conformal_groups_")


def test_where_no_group_can_be_held_out_the_error_says_so() -> None:
    features, _ = grouped_features(0)
    with pytest.warns(UserWarning, match="all rows of 0, 1 are of one group"):
        found = head_of().repurpose(features, groups=features.labels)
    with pytest.raises(ValueError, match="every group has all training examples of a class, so none can be held out"):
        found.predict_set(features)


def test_a_group_counts_as_one_row_however_its_rows_are_weighed() -> None:
    rows = ReferenceRows(np.zeros((4, 1)), np.zeros(4, int), np.array([1.0, 3.0, 5.0, 5.0]), np.array([7, 7, 2, 2]))
    assert rows.shares is not None
    assert rows.shares.tolist() == [0.25, 0.75, 0.5, 0.5]
    assert rows[np.array([1, 2])].shares.tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    assert ReferenceRows(rows.matrix, rows.codes, rows.weights).shares is rows.weights
