"""Estimates of MMD^2 are those of two loops written by hand, unbiased, and have the gradients of their formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from repurpose.domain.distributions import mmd
from repurpose.domain.distributions.kernels import squared_mmd
from repurpose.domain.distributions.mmd import linear_time_mmd, unbiased_mmd

ESTIMATORS = pytest.mark.parametrize("estimate", [unbiased_mmd, linear_time_mmd])
POWERS = {1: (0,), 2: (-1, 0), 4: (-2, -1, 0, 1), 5: (-2, -1, 0, 1, 2)}


def drawn(*shape: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def lower_median(values: list[float]) -> float:
    apart = sorted(value for value in values if value > 0)
    return apart[(len(apart) - 1) // 2]


def mean_kernel(x: np.ndarray, z: np.ndarray, median: float, n_kernels: int) -> float:
    squared = float(((x - z) ** 2).sum())
    return float(np.mean([np.exp(-squared / (median * 2.0**power)) for power in POWERS[n_kernels]]))


def full_by_loops(source: np.ndarray, target: np.ndarray, n_kernels: int) -> float:
    rows = [*source, *target]
    apart = [float(((x - z) ** 2).sum()) for i, x in enumerate(rows) for j, z in enumerate(rows) if i != j]
    median, total = lower_median(apart), 0.0
    for domain in (source, target):
        for i, x in enumerate(domain):
            for j, z in enumerate(domain):
                if i != j:
                    total += mean_kernel(x, z, median, n_kernels) / (len(domain) * (len(domain) - 1))
    for x in source:
        for z in target:
            total -= 2 * mean_kernel(x, z, median, n_kernels) / (len(source) * len(target))
    return total


def linear_by_loop(source: np.ndarray, target: np.ndarray, n_kernels: int) -> float:
    quadruples = []
    for first in range(0, min(len(source), len(target)) - 1, 2):
        quadruples.append((source[first], source[first + 1], target[first], target[first + 1]))
    apart = [
        float(((x - z) ** 2).sum())
        for s, s_next, t, t_next in quadruples
        for x, z in ((s, s_next), (t, t_next), (s, t_next), (s_next, t))
    ]
    median = lower_median(apart)
    return float(
        np.mean(
            [
                mean_kernel(s, s_next, median, n_kernels)
                + mean_kernel(t, t_next, median, n_kernels)
                - mean_kernel(s, t_next, median, n_kernels)
                - mean_kernel(s_next, t, median, n_kernels)
                for s, s_next, t, t_next in quadruples
            ]
        )
    )


@pytest.mark.parametrize("n_kernels", [1, 2, 4, 5])
@pytest.mark.parametrize(("n_source", "n_target"), [(6, 6), (7, 4), (2, 9), (5, 5), (3, 2)])
def test_both_are_what_loops_over_rows_give(n_source: int, n_target: int, n_kernels: int) -> None:
    source, target = drawn(n_source, 3), drawn(n_target, 3, seed=1, shift=0.5)
    given = source.numpy(), target.numpy(), n_kernels
    assert unbiased_mmd(source, target, n_kernels).item() == pytest.approx(full_by_loops(*given), abs=1e-12)
    assert linear_time_mmd(source, target, n_kernels).item() == pytest.approx(linear_by_loop(*given), abs=1e-12)


@ESTIMATORS
def test_it_is_0_on_average_where_both_are_distributed_alike_and_above_where_not(
    estimate: Callable[..., Tensor],
) -> None:
    rows = drawn(600, 2, 16, 4)
    alike = np.array([estimate(source, target).item() for source, target in rows])
    assert abs(alike.mean()) < 3 * alike.std() / np.sqrt(len(alike))
    shifted = np.array([estimate(source, target + 0.7).item() for source, target in rows])
    assert shifted.mean() > 10 * shifted.std() / np.sqrt(len(shifted))
    assert alike.min() < 0  # unbiased, and so not at least 0


def test_with_diagonals_it_is_the_biased_one_that_is_computed_without_gradients() -> None:
    source, target = drawn(30, 3), drawn(20, 3, seed=1, shift=0.3)
    rows = torch.cat([source, target]).numpy()
    median = lower_median([float(((x - z) ** 2).sum()) for x in rows for z in rows])
    biased = squared_mmd(source.numpy(), target.numpy(), np.sqrt(median / 2))
    of_source, of_target = (
        np.mean([mean_kernel(x, z, median, 1) for x in part for z in part]) for part in (source.numpy(), target.numpy())
    )
    without = biased - of_source - of_target + (30 * of_source - 1) / 29 + (20 * of_target - 1) / 19
    assert unbiased_mmd(source, target, 1).item() == pytest.approx(without, abs=1e-12)


@ESTIMATORS
@pytest.mark.parametrize("n_target", [4, 5])
def test_gradients_are_those_of_the_formula_at_fixed_widths(
    estimate: Callable[..., Tensor], n_target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = drawn(6, 3).requires_grad_(), drawn(n_target, 3, seed=1).requires_grad_()
    own = torch.autograd.grad(estimate(source, target), (source, target))
    width = mmd._median(distances_of(estimate, source.detach(), target.detach()))
    monkeypatch.setattr(mmd, "_median", lambda distances: width)
    assert torch.autograd.gradcheck(estimate, (source, target))
    for gradient, fixed in zip(own, torch.autograd.grad(estimate(source, target), (source, target))):
        torch.testing.assert_close(gradient, fixed, rtol=1e-12, atol=1e-15)


def distances_of(estimate: Callable[..., Tensor], source: Tensor, target: Tensor) -> Tensor:
    """The squared distances by whose median the widths are."""
    if estimate is unbiased_mmd:
        return torch.pdist(torch.cat([source, target])).square()
    n = min(len(source), len(target)) // 2 * 2
    s, s_next, t, t_next = source[0:n:2], source[1:n:2], target[0:n:2], target[1:n:2]
    return torch.cat([(a - b).square().sum(1) for a, b in ((s, s_next), (t, t_next), (s, t_next), (s_next, t))])


@ESTIMATORS
def test_widths_follow_the_scale_of_the_rows_and_carry_no_gradient(estimate: Callable[..., Tensor]) -> None:
    source, target = drawn(8, 3), drawn(8, 3, seed=1, shift=1)
    assert estimate(source * 1000, target * 1000).item() == pytest.approx(estimate(source, target).item(), abs=1e-12)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    estimate(source * scale, target * scale).backward()
    assert abs(scale.grad.item()) > 1e-3  # 0 if the widths followed: the value does not depend on the scale


@ESTIMATORS
@pytest.mark.parametrize(("n_source", "n_target"), [(1, 5), (5, 1), (0, 4), (1, 1)])
def test_one_row_of_a_domain_says_nothing(estimate: Callable[..., Tensor], n_source: int, n_target: int) -> None:
    source, target = drawn(n_source, 3).requires_grad_(), drawn(n_target, 3).requires_grad_()
    found = estimate(source, target)
    found.backward()
    assert found.item() == 0
    assert not source.grad.any()
    assert not target.grad.any()


@ESTIMATORS
def test_rows_that_are_all_the_same_are_0_apart(estimate: Callable[..., Tensor]) -> None:
    source = torch.ones(6, 3, requires_grad=True)
    found = estimate(source, torch.ones(4, 3))
    found.backward()
    assert found.item() == 0
    assert not source.grad.any()


@ESTIMATORS
def test_large_means_and_bfloat16_cost_no_digits(estimate: Callable[..., Tensor]) -> None:
    source, target = drawn(8, 3), drawn(8, 3, seed=1, shift=1)
    exact = estimate(source + 1000, target + 1000)
    assert estimate((source + 1000).float(), (target + 1000).float()).item() == pytest.approx(exact.item(), abs=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        found = estimate(source.float(), target.float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), abs=1e-5)
    assert estimate(source.bfloat16(), target.bfloat16()).dtype == torch.float32
