import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from repurpose.meta_model.gp.calibration import choose_temperature, deal_groups
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.model import tempered_logits
from repurpose.meta_model.gp.targets import DirichletTargets
from tests.repurpose.meta_model.gp.examples import SIZES, TARGETS, codes, kernel_matrix


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
