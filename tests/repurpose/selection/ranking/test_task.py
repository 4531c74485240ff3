"""What candidates share is dealt once, by the content of features, and refused where nothing could be left out."""

import numpy as np
import pytest
import torch

from repurpose.selection.ranking.nested import Nest
from repurpose.selection.ranking.task import Task

ROWS = np.random.RandomState(0).standard_normal((30, 4))
LABELS = np.array(list("abc"))[np.arange(30) % 3]


def task(rows: np.ndarray = ROWS, labels: np.ndarray = LABELS, groups: np.ndarray | None = None) -> Task:
    return Task.of(rows, labels, groups, 100, np.random.RandomState(0))


def test_each_dealing_leaves_every_row_out_once_and_no_two_of_a_class_together() -> None:
    found = task()
    assert found.left_out.all()
    for dealing in found.dealings:
        assert sorted(torch.cat(dealing).tolist()) == list(range(30))
        assert all(len(set(found.codes[rows])) == len(rows) for rows in dealing)
    assert len({str(dealing) for dealing in found.dealings}) == 5


def test_other_orders_and_names_deal_the_same_rows_alike() -> None:
    order = np.random.RandomState(1).permutation(30)
    one, other = task(), task(ROWS[order], np.array(list("zxy"))[np.arange(30) % 3][order])
    assert (ROWS[one.order] == ROWS[order][other.order]).all()
    assert (one.folds == other.folds).all()
    assert str(one.dealings) == str(other.dealings)


def test_a_group_stays_together_and_one_that_holds_a_class_is_told_of() -> None:
    groups = np.arange(30) // 6
    found = task(groups=groups)
    for dealing in found.dealings:
        for rows in dealing:
            together = np.isin(found.groups, found.groups[rows])
            assert sorted(rows.tolist()) == np.flatnonzero(together).tolist()
    with pytest.warns(UserWarning, match="'c' are of one group"):
        partly = task(groups=np.where(LABELS == "c", 99, groups))
    assert not partly.left_out[partly.groups == 99].any()


def test_few_large_groups_are_left_out_whole_and_dealt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 rows of ten classes in three groups none could be left out, being more than 500 rows each."""
    labels, groups = np.arange(2000) % 10, np.arange(2000) // 667
    found = Task.of(np.arange(2000.0)[:, None], labels, groups, 2000, np.random.RandomState(0))
    assert found.left_out.all()
    assert [sorted(map(len, dealing)) for dealing in found.dealings] == [[666, 667, 667]]
    monkeypatch.setattr("repurpose.meta_model.gp.calibration._LARGEST_BLOCK", 3 * 9**3)
    with pytest.raises(ValueError, match="takes too long; give rows of each class from several groups, or a smaller"):
        task(groups=np.arange(30) // 10)


def test_a_part_of_a_task_lacks_the_classes_that_it_lacks() -> None:
    part = task().part(np.arange(20), np.random.RandomState(0))  # rows are sorted by class
    assert part.sizes == [10, 10]
    assert part.left_out.all()


def test_nested_folds_need_rows_to_leave_out_of_what_a_fold_leaves() -> None:
    with pytest.raises(ValueError, match=r"nested=True.*three labelled rows"):
        Nest.of(task(ROWS[:6], LABELS[:6]), 0)
    nest = Nest.of(task(), 0)
    assert sorted(nest.held_out_rows().tolist()) == list(range(30))
    assert all(len(training) + len(held_out) == 30 for training, held_out, _ in nest.inner)
