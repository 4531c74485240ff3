from typing import Any

import numpy as np
import pytest

from repurpose.data.folds import deal_balanced_folds, deal_folds, deal_share, order_by_content


def new_rng() -> np.random.RandomState:
    return np.random.RandomState(0)


def test_folds_are_even_overall_and_within_classes() -> None:
    codes = np.repeat([0, 1, 2], [11, 23, 6])
    folds = deal_folds(codes, new_rng())
    assert folds is not None
    assert np.bincount(folds).tolist() == [8] * 5
    for code in range(3):
        counts = np.bincount(folds[codes == code], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_small_classes_are_spread_and_singletons_never_held_out() -> None:
    codes = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    folds = deal_folds(codes, new_rng())
    assert folds is not None
    assert folds[5] == -1
    for fold in range(folds.max() + 1):
        assert set(codes[folds != fold]) == {0, 1, 2, 3}


def test_no_class_with_two_examples_means_no_folds() -> None:
    assert deal_folds(np.arange(4), new_rng()) is None


def test_rows_of_a_class_are_shuffled_before_they_are_dealt() -> None:
    codes = np.repeat([0, 1], 50)
    first, again, other = (deal_folds(codes, np.random.RandomState(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    in_order = np.arange(100) % 5
    assert 5 < (first == in_order).sum() < 40  # 20 by chance


def test_folds_do_not_depend_on_the_names_of_the_classes() -> None:
    codes = np.array([2, 0, 0, 1, 2, 0, 3, 1, 2, 1, 0, 2])
    expected = deal_folds(codes, new_rng())
    for names in ([1, 0, 3, 2], [3, 2, 1, 0]):
        assert np.array_equal(deal_folds(np.array(names)[codes], new_rng()), expected)


def test_balanced_folds_hold_out_one_of_each_class_together() -> None:
    codes = np.repeat([0, 1, 2, 3], [2, 2, 7, 1])
    folds = deal_balanced_folds(codes, new_rng())
    assert folds is not None
    held_out = [np.bincount(codes[folds == fold], minlength=4).tolist() for fold in range(5)]
    assert held_out == [[1, 1, 2, 0], [1, 1, 2, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert folds[codes == 3].tolist() == [-1]
    assert not np.array_equal(deal_balanced_folds(codes, np.random.RandomState(1)), folds)
    assert deal_balanced_folds(np.arange(4), new_rng()) is None


def test_the_order_by_content_is_that_of_rows_and_classes_however_they_come() -> None:
    rng = np.random.default_rng(0)
    rows, codes = rng.integers(0, 2, size=(60, 3)) / 3.0, rng.permutation(np.arange(60) % 3)  # many are equal
    weights = rng.uniform(size=60)
    expected, expected_codes = order_by_content(rows, codes, weights)
    first_rows = [np.flatnonzero(expected_codes == code)[0] for code in range(3)]
    assert first_rows == sorted(first_rows)
    for _ in range(3):
        shuffled, names = rng.permutation(60), rng.permutation(3)
        order, found = order_by_content(rows[shuffled], names[codes[shuffled]], weights[shuffled])
        assert np.array_equal(shuffled[order], expected)
        assert np.array_equal(found, expected_codes)


def random_groups(seed: int, n_rows: int = 80, n_groups: int = 17) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, n_rows), rng.integers(0, n_groups, n_rows)


@pytest.mark.parametrize("deal", [deal_folds, deal_balanced_folds])
def test_no_group_is_split_and_every_class_can_be_learned_without_a_fold(deal: Any) -> None:
    for seed in range(20):
        codes, groups = random_groups(seed)
        folds = deal(codes, new_rng(), groups)
        assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
        assert set(folds[folds >= 0]) == set(range(5))
        for fold in range(5):
            assert set(codes[folds != fold]) == {0, 1, 2, 3}
            assert 8 <= (folds == fold).sum() <= 26


@pytest.mark.parametrize("deal", [deal_folds, deal_balanced_folds])
def test_groups_of_one_row_are_no_groups(deal: Any) -> None:
    codes = np.repeat([0, 1, 2], [11, 23, 6])
    assert np.array_equal(deal(codes, new_rng(), np.random.default_rng(0).permutation(40)), deal(codes, new_rng()))


def test_balanced_folds_hold_out_one_group_of_each_class() -> None:
    codes, groups = np.repeat([0, 1, 2], 6), np.repeat(np.arange(6), 3)
    folds = deal_balanced_folds(codes, new_rng(), groups)
    assert folds is not None
    assert sorted(set(folds)) == [0, 1]
    assert all(np.bincount(codes[folds == fold]).tolist() == [3, 3, 3] for fold in (0, 1))
    spread = deal_folds(codes, new_rng(), groups)
    assert spread is not None
    assert sorted(np.bincount(spread)) == [3, 3, 3, 3, 6]


def test_a_group_with_all_rows_of_a_class_is_never_held_out() -> None:
    codes, groups = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 2, 1, 2])
    folds = deal_folds(codes, new_rng(), groups)
    assert folds is not None
    assert folds[:3].tolist() == [-1, -1, -1]
    assert set(folds[3:]) == {0, 1}
    assert deal_folds(np.array([0, 0, 1, 1]), new_rng(), np.array([0, 0, 1, 1])) is None


def test_neither_names_of_groups_nor_of_classes_matter() -> None:
    codes, groups = random_groups(0)
    expected = deal_folds(codes, new_rng(), groups)
    assert np.array_equal(deal_folds(3 - codes, new_rng(), 99 - groups), expected)
    assert not np.array_equal(deal_folds(codes, np.random.RandomState(1), groups), expected)


def test_a_share_of_groups_is_near_what_is_wanted_of_each_class() -> None:
    for seed in range(20):
        codes, groups = random_groups(seed, 200, 60)
        held_out = deal_share(codes, 0.25, np.random.RandomState(seed), groups)
        left = np.setdiff1d(np.arange(200), held_out)
        assert not set(groups[held_out]) & set(groups[left])
        shares = np.bincount(codes[held_out], minlength=4) / np.bincount(codes)
        assert 0.15 < shares.min() <= shares.max() < 0.35
    assert len(deal_share(np.arange(4) // 2, 0.5, new_rng(), np.array([0, 0, 1, 1]))) == 0
