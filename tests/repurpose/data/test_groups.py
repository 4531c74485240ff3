"""Labels of groups become codes, and what cannot be a group is said."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from model_handler import TableData
from repurpose.data.groups import (
    Grouping,
    can_be_held_out,
    given_groups,
    group_codes,
    groups_of_present_rows,
    groups_option,
    joined_to_singles,
    judged_groups,
    warn_of_whole_classes,
)


@pytest.mark.parametrize(
    "groups",
    [
        ["b", "a", "b"],
        np.array(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], index=[5, 5, 7]),
        pd.Categorical(["b", "a", "b"]),
        (7, "7", 7),
        torch.tensor([9, 2, 9]),
        np.array([[1.5], [0.0], [1.5]]),
        [("anna", 1), ("anna", 2), ("anna", 1)],
    ],
)
def test_labels_of_any_kind_become_codes_in_the_order_of_the_rows(groups: object) -> None:
    codes = group_codes(groups, 3)  # type: ignore[arg-type]
    assert codes.tolist() == [0, 1, 0]
    assert codes.dtype == np.int64


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", None, "b", None], r"2 of 4 rows have no group \(NaN or None\): rows 1, 3; give each"),
        (np.array([0.0, np.nan, 1.0, 1.0]), "1 of 4 rows have no group .*rows 1;"),
        (pd.Series(["a", "b", pd.NA, "a"], dtype="string"), "1 of 4 rows have no group .*rows 2;"),
        (["a", "b", "a"], "the data have 4 rows and groups has 3; every row needs one group"),
        (["a"] * 4, "all 4 rows are of the group 'a', so that nothing could be held out"),
        (np.zeros((4, 2)), r"one label for each row, on one axis; got an array of shape \(4, 2\)"),
    ],
)
def test_what_cannot_be_groups_is_named(groups: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_codes(groups, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", ["abc", 3, [{}, {}], [[1], [2]]])
def test_what_is_no_label_is_refused(groups: object) -> None:
    with pytest.raises(TypeError, match=r"groups must (hold one label for each row|be numbers, text or other labels)"):
        group_codes(groups)  # type: ignore[arg-type]


def test_groups_come_from_a_table_unless_others_are_given() -> None:
    frame = pd.DataFrame({"path": list("abc"), "patient": ["x", "y", "x"], "groups": [1, 2, 3]})
    table = TableData(frame, input="path", group="patient")
    assert given_groups(table).tolist() == ["x", "y", "x"]
    assert judged_groups(table, None).tolist() == [0, 1, 0]  # type: ignore[union-attr]
    assert judged_groups(table, [1, 1, 2]).tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert given_groups(frame) is None  # a column of that name is an input
    assert judged_groups(TableData(frame, input="path"), None) is None


def test_a_loader_that_shuffles_has_no_order_for_groups() -> None:
    rows = TensorDataset(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="the DataLoader shuffles, so groups cannot be matched with its rows"):
        judged_groups(DataLoader(rows, shuffle=True), [0, 0, 1, 1])
    assert judged_groups(DataLoader(rows), [5, 5, 1, 1]).tolist() == [0, 0, 1, 1]  # type: ignore[union-attr]


def test_a_group_that_has_all_rows_of_a_class_cannot_be_held_out() -> None:
    codes, groups = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([4, 4, 4, 8, 8, 8, 1])
    grouping = Grouping.of(codes, groups)
    assert grouping.of_row.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert grouping.counts.tolist() == [[2, 1, 0], [0, 1, 2], [0, 0, 1]]
    assert grouping.hold_a_class.tolist() == [True, False, False]
    assert can_be_held_out(codes, groups).tolist() == [False] * 3 + [True] * 4
    assert can_be_held_out(np.array([0, 1, 1]), None).tolist() == [False, True, True]
    with pytest.warns(
        UserWarning, match="all rows of 'a' are of one group, .*the 3 rows of such groups are learned from"
    ):
        warn_of_whole_classes(codes, groups, np.array(["a", "b", "c"]))


def test_a_class_of_one_row_is_no_news(recwarn: pytest.WarningsRecorder) -> None:
    warn_of_whole_classes(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array(["a", "b"]))
    assert not recwarn.list


def test_groups_are_numbered_by_their_first_rows_whatever_they_are_called() -> None:
    codes, groups = np.array([0, 1, 0, 1]), np.array([3, 1, 1, 3])
    one, other = Grouping.of(codes, groups), Grouping.of(1 - codes, 9 - groups)
    assert np.array_equal(one.counts, other.counts)
    assert np.array_equal(one.of_row, other.of_row)


def test_rows_of_weight_zero_leave_with_their_groups() -> None:
    assert groups_of_present_rows(np.array([0, 1, 2]), np.array([1.0, 0.0, 2.0])).tolist() == [0, 2]
    with pytest.raises(ValueError, match="the data have 2 rows and groups has 3"):
        groups_of_present_rows(np.array([0, 1, 2]), np.ones(2))


def test_rows_of_one_group_are_given_without_it() -> None:
    groups = np.array([4, 4, 7])
    assert groups_option(groups, np.array([0, 2]))["groups"].tolist() == [4, 7]
    assert groups_option(groups, np.array([0, 1])) == groups_option(None, np.array([0, 2])) == {}


def test_rows_by_themselves_come_before_the_others() -> None:
    assert joined_to_singles(2, np.array([0, 3, 0])).tolist() == [4, 5, 0, 3, 0]
