"""TypiClust beside loops: how many clusters, which come first, and which row of each."""

import numpy as np
import pytest

from repurpose.labelling.suggesting import typiclust as module
from repurpose.labelling.suggesting.typiclust import typicality, typiclust

CENTERS = np.eye(5) * 20
SIZES = [30, 12, 8, 5, 4]  # the last is too small to be more than outliers
ROWS = np.repeat(CENTERS, SIZES, axis=0) + np.random.default_rng(0).normal(size=(sum(SIZES), 5))
BLOB_OF_ROW = np.repeat(np.arange(5), SIZES)


def mask(*rows: int) -> np.ndarray:
    return np.isin(np.arange(len(ROWS)), rows)


def blobs(n: int, labelled: np.ndarray | None = None) -> list[int]:
    """Return the blob of each row chosen."""
    return BLOB_OF_ROW[typiclust(ROWS, n, np.random.RandomState(0), labelled).rows].tolist()


@pytest.fixture(autouse=True)
def _blobs_are_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the blobs as clusters, whatever k-means would make of their number."""

    class Blobs:
        of_row = BLOB_OF_ROW

    monkeypatch.setattr(module, "cluster", lambda rows, n, random_state: Blobs())


@pytest.mark.parametrize("n_rows", [2, 9, 60])
def test_typicality_is_the_inverse_of_the_mean_distance_to_neighbours(n_rows: int) -> None:
    rows = np.random.default_rng(0).normal(size=(n_rows, 3))
    found = typicality(rows)
    for row in range(n_rows):
        distances = sorted(float(np.linalg.norm(rows[row] - rows[other])) for other in range(n_rows) if other != row)
        nearest = distances[: max(1, min(20, n_rows // 2))]
        assert found[row] == pytest.approx(len(nearest) / sum(nearest))


def test_a_row_alone_is_not_typical() -> None:
    assert typicality(np.zeros((1, 2))).tolist() == [0]


def test_there_are_as_many_clusters_as_there_will_be_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(rows: np.ndarray, n: int, random_state: np.random.RandomState) -> object:
        asked.append(n)
        return type("Blobs", (), {"of_row": BLOB_OF_ROW})

    monkeypatch.setattr(module, "cluster", ask)
    typiclust(ROWS, 4, np.random.RandomState(0))
    typiclust(ROWS, 4, np.random.RandomState(0), mask(0, 31, 45))
    monkeypatch.setattr(module, "_MOST_CLUSTERS", 5)
    typiclust(ROWS, 4, np.random.RandomState(0), mask(0, 31, 45))
    assert asked == [4, 7, 5]


def test_the_largest_clusters_come_first_and_the_smallest_gives_none() -> None:
    assert blobs(4) == [0, 1, 2, 3]
    assert blobs(6) == [0, 1, 2, 3, 0, 1]


def test_clusters_with_fewer_labels_come_first() -> None:
    assert blobs(5, mask(0, 1, 30)) == [2, 3, 1, 0, 2]


def test_each_row_is_the_most_typical_of_those_left_in_its_cluster() -> None:
    labelled = mask(0, 1, 30)
    chosen = typiclust(ROWS, 6, np.random.RandomState(0), labelled)
    left = ~labelled
    for row, score, size in zip(chosen.rows, chosen.scores, chosen.cluster_sizes):
        members = np.flatnonzero(np.isin(BLOB_OF_ROW, BLOB_OF_ROW[row]) & left)
        typical = typicality(ROWS[members])
        assert row == members[typical.argmax()]
        assert score == typical.max()
        assert size == SIZES[BLOB_OF_ROW[row]]
        left[row] = False


def test_when_nothing_else_is_left_small_clusters_give_their_rows_too() -> None:
    labelled = BLOB_OF_ROW < 3
    assert blobs(9, labelled) == [3] * 5 + [4] * 4
