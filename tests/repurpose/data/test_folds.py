import numpy as np

from repurpose.data.folds import deal_balanced_folds, deal_folds, order_by_content


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
