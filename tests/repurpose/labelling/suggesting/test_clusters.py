"""Clusters and their medoids beside loops over all rows."""

import numpy as np

from repurpose.labelling.suggesting.clusters import cluster, nearest_rows

ROWS = np.random.default_rng(0).normal(size=(40, 3))


def test_a_medoid_has_the_least_sum_of_squares_to_its_cluster() -> None:
    clusters = cluster(ROWS, 5, np.random.RandomState(0))
    medoids = clusters.medoids(ROWS)
    assert len(medoids) == len(clusters.means) == 5
    for number, medoid in enumerate(medoids):
        members = [row for row in range(len(ROWS)) if clusters.of_row[row] == number]
        sums = {row: sum(float(((ROWS[row] - ROWS[other]) ** 2).sum()) for other in members) for row in members}
        assert medoid == min(sums, key=sums.__getitem__)


def test_equal_rows_make_one_cluster() -> None:
    rows = np.repeat(ROWS[:2], 4, axis=0)
    clusters = cluster(rows, 5, np.random.RandomState(0))
    assert len(clusters.means) == 2
    assert len(set(clusters.of_row[:4])) == len(set(clusters.of_row[4:])) == 1


def test_rows_of_more_weight_draw_the_mean() -> None:
    rows = np.array([[0.0], [1.0], [9.0]])
    clusters = cluster(rows, 2, np.random.RandomState(0), np.array([1.0, 3.0, 1.0]))
    assert sorted(clusters.means.ravel()) == [0.75, 9.0]
    assert sorted(clusters.medoids(rows)) == [1, 2]


def test_nearest_rows_are_those_of_a_loop() -> None:
    found = nearest_rows(ROWS[:5], ROWS[5:])
    for row, other in enumerate(found):
        assert other == min(range(35), key=lambda number: float(((ROWS[row] - ROWS[5 + number]) ** 2).sum()))
