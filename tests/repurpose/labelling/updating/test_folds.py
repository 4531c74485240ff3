"""New rows come to the folds that have fewest of their class, and no fold holds out all rows of a class."""

import numpy as np

from repurpose.labelling.updating.folds import folds_of_changed_rows


def dealt(before: list[int], came_from: list[int], codes: list[int], groups: list[int] | None = None) -> list[int]:
    given = (np.array(before), np.array(came_from), np.array(codes))
    return folds_of_changed_rows(*given, None if groups is None else np.array(groups)).tolist()


def test_new_rows_come_to_the_fold_with_fewest_of_their_class_then_to_the_smallest() -> None:
    # fold 1 has no row of class 0; of class 1 folds 0 and 1 have one each, and fold 1 is smaller
    assert dealt([0, 0, 2, 2, 0, 1], [0, 1, 2, 3, 4, 5, -1, -1], [0, 0, 0, 0, 1, 1, 0, 1]) == [0, 0, 2, 2, 0, 1, 1, 2]


def test_a_new_class_of_one_row_is_never_held_out_and_of_two_rows_each_in_a_fold_of_its_own() -> None:
    assert dealt([0, 1], [0, 1, -1], [0, 0, 1]) == [0, 1, -1]
    assert sorted(dealt([0, 1], [0, 1, -1, -1], [0, 0, 1, 1])[2:]) == [0, 1]


def test_rows_that_have_become_all_of_a_class_are_taken_out_of_their_fold() -> None:
    assert dealt([0, 1, 1, 0, 1], [0, 1, 2, 4], [0, 0, 1, 1]) == [0, 1, -1, -1]
    assert dealt([0, 1, 1, 0, 1], [0, 1, 2, 3, 4], [0, 0, 1, 1, 1]) == [0, 1, 1, 0, 1]


def test_a_row_that_was_never_held_out_stays_so_when_others_of_its_class_come() -> None:
    assert dealt([0, 1, -1], [0, 1, 2, -1], [0, 0, 1, 1])[2:] in ([-1, 0], [-1, 1])


def test_new_groups_come_whole_and_leave_whole() -> None:
    found = dealt([0, 1, 1], [0, 1, 2, -1, -1, -1], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 3, 3])
    assert found == [0, 1, 1, 0, 0, 0]
    # the only rows of class 1 are of a group with a row of class 0
    assert dealt([0, 1, 1], [0, 1, 2, -1, -1], [0, 0, 0, 1, 0], [0, 1, 2, 3, 3]) == [0, 1, 1, -1, -1]
