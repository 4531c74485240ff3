"""Whatever has the methods of a `Head` can be asked about its uncertainty; it need not be a Repurposer."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from repurpose.uncertainty.comparisons import ReferenceRows, ScoreByHead, compare_labels, out_of_fold_probabilities
from repurpose.uncertainty.head import Head
from repurpose.uncertainty.out_of_fold import deal_out, folds_with_heads, learn_without_folds

CODES = np.array([0, 0, 1, 1, 0, 1])
ROWS = ReferenceRows(np.arange(6.0)[:, None], CODES, np.arange(1.0, 7.0))


class Counting:
    """Gives every row the frequencies of the classes among the rows it learned from."""

    def __init__(self, frequencies: np.ndarray) -> None:
        self.frequencies = frequencies

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        return np.tile(self.frequencies, (len(matrix), 1))

    def head_variances(self, matrix: np.ndarray) -> np.ndarray:
        return matrix[:, 0] ** 2

    def learn_from(self, rows: np.ndarray) -> dict[str, Any]:
        return {"frequencies": np.bincount(CODES[rows], minlength=2) / len(rows)}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        return type(self)(**learned)


HEAD: Head = Counting(np.array([0.5, 0.5]))


def test_heads_of_folds_learn_from_the_other_rows_and_judge_their_own() -> None:
    folds = deal_out(CODES, np.random.RandomState(0))
    held_out = list(folds_with_heads(HEAD, folds, learn_without_folds(HEAD, folds)))
    probabilities, rows = out_of_fold_probabilities(held_out, ROWS)
    order = np.concatenate([fold.held_out for fold in held_out])
    expected = [np.bincount(CODES[folds != folds[row]], minlength=2) / (folds != folds[row]).sum() for row in order]
    assert np.allclose(probabilities, expected)
    assert np.array_equal(rows.codes, CODES[order])
    assert np.array_equal(rows.weights, ROWS.weights[order])


def test_labels_are_compared_by_calibrated_probabilities_and_weights() -> None:
    (found,) = compare_labels([(HEAD, ROWS)], np.zeros((2, 1)), lambda p: p * [0.2, 1.8], "lac", (5, 0.01))
    assert np.allclose(found.reference, np.where(CODES == 0, 0.9, 0.1))
    assert np.allclose(found.scores, [[0.9, 0.1]] * 2)
    assert found.weights is ROWS.weights


def test_scores_of_the_head_are_its_energy_and_its_variance() -> None:
    assert np.allclose(ScoreByHead(HEAD, "energy")(ROWS.matrix), np.log(0.5))
    assert np.allclose(ScoreByHead(HEAD, "variance")(ROWS.matrix), np.arange(6.0) ** 2)
