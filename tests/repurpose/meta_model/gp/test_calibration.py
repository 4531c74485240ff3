import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from repurpose.data.groups import Grouping
from repurpose.meta_model.gp.calibration import choose_temperature, deal_groups
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.model import tempered_logits
from repurpose.meta_model.gp.targets import DirichletTargets
from tests.repurpose.meta_model.gp.examples import SIZES, TARGETS, codes, kernel_matrix, naive_targets


def test_groups_hold_each_example_once_and_no_class_twice() -> None:
    groups = deal_groups(SIZES, np.random.RandomState(0))
    together = torch.cat(groups).numpy()
    single = np.flatnonzero(codes() == 2)  # a class of one example is not left out
    assert sorted(together.tolist()) == np.setdiff1d(np.arange(sum(SIZES)), single).tolist()
    for group in groups:
        members = codes()[group.numpy()]
        assert len(set(members)) == len(members)
    assert len(groups[0]) == 3


def test_many_classes_are_spread_over_small_groups() -> None:
    groups = deal_groups([2] * 1000, np.random.RandomState(0))
    assert max(map(len, groups)) <= 20
    assert sum(map(len, groups)) == 2000


def temperature(labels_that_lie: float) -> float:
    rng = np.random.default_rng(0)
    sizes = [40, 40]
    x = torch.from_numpy(np.repeat([[1.0, 0.0], [0.0, 1.0]], 40, axis=0) + 0.1 * rng.normal(size=(80, 2)))
    liars = rng.random(80) < labels_that_lie
    x[liars] = x[liars].flip(1)
    kernel = LayerKernels(np.array([10.0]), np.array([0.05]), np.array([5.0]))
    posterior = condition(kernel.matrix(Products.between([x], [x])), sizes, DirichletTargets.of(5e-3))
    return choose_temperature(posterior, sizes, 0.1, np.random.RandomState(0))


def test_labels_that_lie_make_the_temperature_rise() -> None:
    assert temperature(0.25) > 1.1 > temperature(0.0)


def test_nothing_to_leave_out_leaves_the_temperature_alone() -> None:
    kernel = torch.eye(3, dtype=torch.float64)
    posterior = condition(kernel, [1, 1, 1], DirichletTargets.of(1e-2))
    assert choose_temperature(posterior, [1, 1, 1], 0.1, np.random.RandomState(0)) == 1


def test_left_out_examples_count_as_often_as_they_did() -> None:
    repeats = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 9, sum(SIZES)))
    posterior = condition(kernel_matrix(), SIZES, TARGETS, repeats)
    found = choose_temperature(posterior, SIZES, 0.1, np.random.RandomState(0))
    groups = deal_groups(SIZES, np.random.RandomState(0))
    kept = torch.cat(groups)
    means, variances = posterior.leave_out(groups)
    logits = tempered_logits(means[kept], variances[kept], 0.1, 1.0)

    def loss(log_temperature: float) -> float:
        of_rows = cross_entropy(logits * np.exp(-log_temperature), torch.from_numpy(codes())[kept], reduction="none")
        return float(of_rows @ repeats[kept]) + 0.5 * (log_temperature / 0.05) ** 2

    assert np.log(found) == pytest.approx(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x, abs=1e-4)
    once = choose_temperature(condition(kernel_matrix(), SIZES, TARGETS), SIZES, 0.1, np.random.RandomState(0))
    assert abs(found / once - 1) > 1e-3


def test_one_group_of_each_class_is_left_out_and_each_group_whole() -> None:
    sizes, groups = [8, 8, 8], np.repeat(np.arange(8), 3)  # groups 2 and 5 have rows of two classes
    sets = [rows.numpy() for rows in deal_groups(sizes, np.random.RandomState(0), groups)]
    assert sorted(np.concatenate(sets).tolist()) == list(range(24))
    of_group = [np.flatnonzero([group in set(groups[rows]) for rows in sets]) for group in range(8)]
    assert all(len(found) == 1 for found in of_group)
    for rows in sets:
        classes = [set(codes(sizes)[groups == group]) for group in set(groups[rows])]
        assert sum(map(len, classes)) == len(set().union(*classes))
    pairs = deal_groups([6, 6], np.random.RandomState(0), np.repeat(np.arange(4), 3))
    assert [np.bincount(codes([6, 6])[rows]).tolist() for rows in pairs] == [[3, 3], [3, 3]]


def test_a_group_with_all_rows_of_a_class_is_never_left_out() -> None:
    sets = deal_groups([3, 3], np.random.RandomState(0), np.array([0, 0, 0, 0, 1, 2]))
    assert sorted(map(tuple, map(Tensor.tolist, sets))) == [(4,), (5,)]
    assert not deal_groups([3, 3], np.random.RandomState(0), np.array([0, 0, 0, 1, 1, 1]))


def test_groups_of_one_row_are_left_out_as_rows_are() -> None:
    alone, plain = (deal_groups(SIZES, np.random.RandomState(0), groups) for groups in (np.arange(30), None))
    assert [rows.tolist() for rows in alone] == [rows.tolist() for rows in plain]


def test_blocks_stay_small_whatever_the_groups() -> None:
    groups = np.random.RandomState(0).permutation(np.repeat(np.arange(100), 20))
    sets = deal_groups([2] * 1000, np.random.RandomState(0), groups)
    assert max(map(len, sets)) <= 20
    assert sum(map(len, sets)) == 20 * (~Grouping.of(codes([2] * 1000), groups).hold_a_class).sum()
    assert not deal_groups([4000, 4000], np.random.RandomState(0), np.arange(8000) // 2000 % 2)


def test_the_temperature_is_that_of_processes_that_never_saw_the_group() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 7, 7, 4, 4, 8, 8, 9, 9, 9])
    kernel, (targets, noise) = kernel_matrix(), naive_targets()
    posterior = condition(kernel, SIZES, TARGETS)
    means, variances = torch.full((30, 4), torch.nan).double(), torch.full((30, 4), torch.nan).double()
    for rows in deal_groups(SIZES, np.random.RandomState(0), groups):
        rest = np.setdiff1d(np.arange(30), rows.numpy())
        assert not set(groups[rows]) & set(groups[rest])
        for c in range(4):
            taken = torch.linalg.solve(kernel[rest][:, rest] + torch.diag(noise[rest, c]), kernel[rest][:, rows])
            means[rows, c] = posterior.mean + taken.T @ (targets[rest, c] - posterior.mean)
            variances[rows, c] = kernel.diagonal()[rows] - (kernel[rest][:, rows] * taken).sum(0)
    judged = ~means[:, 0].isnan()
    assert judged.sum() == 28  # the class of one row is in the group 7, which therefore stays
    logits = tempered_logits(means[judged], variances[judged], 0.1, 1.0)

    def loss(log_temperature: float) -> float:
        of_rows = cross_entropy(logits * np.exp(-log_temperature), torch.from_numpy(codes())[judged], reduction="sum")
        return float(of_rows) + 0.5 * (log_temperature / 0.05) ** 2

    expected = minimize_scalar(loss, bounds=(-2, 2), method="bounded").x
    found = choose_temperature(posterior, SIZES, 0.1, np.random.RandomState(0), groups)
    assert np.log(found) == pytest.approx(expected, abs=1e-4)
    assert found != choose_temperature(posterior, SIZES, 0.1, np.random.RandomState(0))
