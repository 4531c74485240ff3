"""The distance between covariances is that of numpy's, and 0 where one row has none."""

import numpy as np
import pytest
import torch

from repurpose.domain.distributions.covariance_distance import covariance_distance

rng = np.random.default_rng(0)


def test_it_is_that_of_the_covariances_of_numpy() -> None:
    source, target = rng.normal(size=(9, 4)), 2 * rng.normal(size=(6, 4)) + 5
    difference = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    found = covariance_distance(torch.from_numpy(source), torch.from_numpy(target))
    assert found.item() == pytest.approx((difference**2).sum() / (4 * 4**2), rel=1e-12)


def test_means_do_not_count_and_large_ones_cost_no_digits() -> None:
    source, target = torch.from_numpy(rng.normal(size=(9, 4))), torch.from_numpy(2 * rng.normal(size=(6, 4)))
    exact = covariance_distance(source, target).item()
    assert covariance_distance(source + 3, target - 4).item() == pytest.approx(exact, rel=1e-12)
    moved = covariance_distance((source + 1000).float(), (target + 1000).float())
    assert moved.item() == pytest.approx(exact, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert covariance_distance(source.float(), target.float()).item() == pytest.approx(exact, rel=1e-5)


def test_its_gradient_is_that_of_the_formula() -> None:
    source, target = (torch.from_numpy(rng.normal(size=(n, 3))).requires_grad_() for n in (5, 4))
    # the mean that is taken off carries no gradient, as the distance does not depend on it
    assert torch.autograd.gradcheck(covariance_distance, (source, target))


@pytest.mark.parametrize(("n_source", "n_target"), [(1, 5), (5, 1), (0, 2)])
def test_one_row_of_a_domain_says_nothing(n_source: int, n_target: int) -> None:
    source, target = torch.ones(n_source, 3, requires_grad=True), torch.ones(n_target, 3, requires_grad=True)
    found = covariance_distance(source, target)
    found.backward()
    assert found.item() == 0
    assert not source.grad.any()
    assert not target.grad.any()
