"""The nearest class mean beside means computed anew for each row."""

import numpy as np
import pytest

from repurpose.selection.ranking.class_means import class_mean_accuracy

rng = np.random.RandomState(0)
CODES = rng.randint(3, size=40)
ROWS = rng.standard_normal((40, 4)) + rng.standard_normal((3, 4))[CODES] + 100
GROUPS = rng.randint(12, size=40)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_accuracy_is_that_of_means_without_the_row_and_its_group(groups: np.ndarray | None) -> None:
    of_group, hits = np.arange(40) if groups is None else groups, []
    for row in range(40):
        others = of_group != of_group[row]
        means = [ROWS[others & (code == CODES)].mean(axis=0) for code in range(3)]
        hits.append(np.argmin([np.linalg.norm(ROWS[row] - mean) for mean in means]) == CODES[row])
    assert 0.4 < np.mean(hits) < 1
    assert class_mean_accuracy(ROWS, CODES, groups) == pytest.approx(np.mean(hits))


def test_a_row_alone_in_its_class_does_not_count() -> None:
    rows, codes = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]]), np.array([0, 0, 1, 1, 2])
    assert class_mean_accuracy(rows, codes) == 1
    assert np.isnan(class_mean_accuracy(rows[[0, 2, 4]], np.arange(3)))
