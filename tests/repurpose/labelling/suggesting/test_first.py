"""The first rows to label: typicality beside a loop, one row of each cluster, and what cannot be asked."""

import numpy as np
import pytest

import repurpose
from model_handler import Features
from repurpose.labelling import suggest_first
from tests.repurpose.labelling.suggesting.examples import X

CORNERS = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
SIZES = [5, 20, 10]
SPREAD = np.random.default_rng(1).normal(scale=0.5, size=(sum(SIZES), 3))
BLOBS = (np.repeat(CORNERS, SIZES, axis=0) + SPREAD).astype(np.float32)
BLOB_OF_ROW = np.repeat(np.arange(3), SIZES)


@pytest.mark.parametrize("method", ["typicality", "medoids"])
def test_each_cluster_gives_a_row_the_largest_first(method: str) -> None:
    suggested = suggest_first(BLOBS, 3, method)
    assert BLOB_OF_ROW[list(suggested["position"])].tolist() == [1, 2, 0]
    assert list(suggested["cluster_size"]) == [20, 10, 5]


def test_the_same_seed_gives_the_same_rows_and_labels_change_nothing() -> None:
    features = Features({"a": X[:, :2], "b": X[:, 2:]})
    labelled = Features(features.values, np.arange(len(X)))
    first = list(repurpose.suggest_first(features, 6)["position"])
    assert first == list(suggest_first(labelled, 6)["position"])
    assert len(set(first)) == 6


def test_all_rows_can_be_suggested_equal_ones_too() -> None:
    suggested = suggest_first(np.repeat(X[:2], 3, axis=0), 6)
    assert sorted(suggested["position"]) == list(range(6))


@pytest.mark.parametrize(
    ("features", "n", "method", "message"),
    [
        (X[:0], 1, "medoids", "Found 0 sample"),
        (X, 61, "medoids", "the pool has only 60 rows; give an n of at most 60"),
        (X, 0, "medoids", "n must be a whole number of at least 1, got 0"),
        (X, 2.5, "medoids", "n must be a whole number"),
        (X, 2, "typical", "nearest: .'typicality'"),
        (np.full((3, 2), np.nan), 2, "medoids", "NaN in 3 of 3 rows"),
    ],
)
def test_what_cannot_be_is_refused(features: np.ndarray, n: int, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suggest_first(features, n, method)
