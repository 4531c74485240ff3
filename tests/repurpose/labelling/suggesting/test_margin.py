"""Margins with diversity: doubtful rows, and of equal ones only one while there are others."""

import numpy as np

from repurpose.labelling.suggesting.margin import by_margin, least_sure

RNG = np.random.default_rng(0)


def test_the_least_sure_come_first_and_ten_times_as_many() -> None:
    margin = RNG.random(100)
    assert least_sure(margin, 3).tolist() == np.argsort(margin)[:30].tolist()


def test_of_each_group_of_rows_one_is_chosen() -> None:
    rows = np.repeat(np.eye(3) * 9, 10, axis=0) + RNG.normal(scale=0.1, size=(30, 3))
    margin = np.sort(RNG.random(30))
    chosen, scores = by_margin(rows, margin, 3, np.random.RandomState(0))
    assert sorted(row // 10 for row in chosen) == [0, 1, 2]
    assert scores == (1 - margin[chosen]).tolist()


def test_equal_rows_are_taken_only_where_nothing_else_is_left() -> None:
    rows = np.array([[0.0], [0.0], [0.0], [5.0]])
    chosen, _ = by_margin(rows, np.array([0.1, 0.2, 0.3, 0.9]), 3, np.random.RandomState(0))
    assert set(chosen[:2]) == {0, 3}
    assert len(set(chosen)) == 3
