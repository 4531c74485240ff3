"""The error of a paired difference, beside one drawn row by row, and the folds that all candidates share."""

import numpy as np
import pytest

from repurpose.selection.results.paired import paired_error, selection_folds


def test_the_error_is_that_of_a_bootstrap_done_row_by_row() -> None:
    differences = np.random.RandomState(0).exponential(size=40)
    draws = np.random.RandomState(1)
    means = [differences[draws.randint(40, size=40)].mean() for _ in range(4000)]
    error = paired_error(differences, np.random.RandomState(2))
    assert error == pytest.approx(np.std(means), rel=0.08)  # 2.2 % and 1.1 % of it by chance
    assert error == pytest.approx(differences.std() / 40**0.5, rel=0.08)


def test_groups_are_drawn_whole() -> None:
    rng = np.random.RandomState(0)
    groups = np.repeat(np.arange(20) * 7 % 20, rng.randint(1, 6, size=20))
    differences = rng.standard_normal(20)[groups] + 0.1 * rng.standard_normal(len(groups))
    draws, means = np.random.RandomState(1), []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in draws.randint(20, size=20)])
        means.append(differences[rows].mean())
    error = paired_error(differences, np.random.RandomState(2), groups)
    assert error == pytest.approx(np.std(means), rel=0.08)
    assert error > 1.4 * paired_error(differences, np.random.RandomState(2))  # rows of a group say the same


def test_groups_of_one_row_each_are_rows() -> None:
    differences = np.random.RandomState(0).standard_normal(30)
    of_rows = paired_error(differences, np.random.RandomState(1))
    assert paired_error(differences, np.random.RandomState(1), np.arange(30)) == of_rows


def test_one_row_or_group_has_no_error_to_speak_of() -> None:
    assert np.isnan(paired_error(np.ones(1), np.random.RandomState(0)))
    assert np.isnan(paired_error(np.ones(5), np.random.RandomState(0), np.zeros(5, int)))
    assert paired_error(np.ones(5), np.random.RandomState(0)) == pytest.approx(0, abs=1e-12)


def test_every_fold_holds_classes_alike_and_a_single_example_is_never_held_out() -> None:
    codes = np.array([0] * 10 + [1] * 5 + [2])
    folds = selection_folds(codes, np.random.RandomState(0))
    assert [np.bincount(codes[folds == fold], minlength=3).tolist() for fold in range(5)] == [[2, 1, 0]] * 5
    assert folds[-1] == -1


def test_without_two_examples_of_a_class_there_are_no_folds() -> None:
    with pytest.raises(ValueError, match="at least two labelled rows"):
        selection_folds(np.arange(4), np.random.RandomState(0))
