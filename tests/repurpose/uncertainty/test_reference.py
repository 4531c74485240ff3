"""What is fitted to training rows is fitted once, and its rows are those that the head learned from."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from tests.repurpose.examples import blob_features, lr


def test_training_rows_are_those_of_the_data_with_their_weights() -> None:
    features, weights = blob_features(), np.arange(1.0, 1 + len(blob_features()))
    rows = lr().repurpose(features, sample_weight=weights).training_rows()
    assert np.array_equal(rows.matrix, features.matrix)
    assert np.array_equal(rows.weights, weights)
    assert np.array_equal(rows[np.array([4, 1])].codes, rows.codes[[4, 1]])


def test_before_repurposing_and_without_rows_the_error_says_what_to_do() -> None:
    with pytest.raises(NotFittedError, match=r"call repurpose\(data\) first"):
        lr().training_rows()
    repurposer = lr().repurpose(blob_features())
    del repurposer.training_codes_
    with pytest.raises(ValueError, match="has no training_codes_, which this needs: they were deleted"):
        repurposer.heads_of_folds()


def test_heads_of_folds_are_trained_once_and_kept() -> None:
    repurposer = lr(random_state=0).repurpose(blob_features())
    first = list(repurposer.heads_of_folds())
    kept = repurposer.fold_heads_
    second = list(repurposer.heads_of_folds())
    assert repurposer.fold_heads_ is kept
    new = np.random.default_rng(0).normal(size=(5, repurposer.n_features_in_)).astype(np.float32)
    for one_time, other_time in zip(first, second, strict=True):
        assert np.array_equal(one_time.held_out, other_time.held_out)
        assert np.array_equal(one_time.head.head_probabilities(new), other_time.head.head_probabilities(new))
