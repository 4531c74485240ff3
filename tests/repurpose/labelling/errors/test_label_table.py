"""The table of labels, by numbers that can be added in the head."""

import numpy as np
import pytest

from repurpose.labelling.errors.label_table import label_table


def test_rows_come_worst_first_with_the_mean_of_the_probabilities_so_far() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [np.nan] * 3, [0.125, 0.25, 0.625]])
    table = label_table(np.array([0, 2, 1, 1]), probabilities, np.array(["ant", "bee", "cat"]), "folds")
    assert table.to_dict("list") == {
        "row": [1, 3, 0],
        "given": ["cat", "bee", "ant"],
        "suggested": ["bee", "cat", "ant"],
        "probability": [0.125, 0.25, 0.5],
        "estimated_false_alarms": pytest.approx([0.125, 0.1875, 0.875 / 3]),
    }
    assert table.attrs == {"judged_by": "folds", "not_judged": [2]}


def test_rows_that_fit_equally_stay_in_order_and_whole_numbers_stay_whole() -> None:
    table = label_table(np.array([1, 0, 1]), np.full((3, 2), 0.5), np.array([3, 8]), "head")
    assert table["row"].tolist() == [0, 1, 2]
    assert table["given"].tolist() == [8, 3, 8]
    assert [table[name].dtype.kind for name in ("row", "given", "suggested")] == ["i"] * 3
