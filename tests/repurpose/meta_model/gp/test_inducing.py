import warnings

import numpy as np
import pytest
import torch

from repurpose.meta_model.gp import inducing
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.inducing import choose_points, condition_on_points
from repurpose.meta_model.gp.kernel import Products
from tests.repurpose.meta_model.gp.examples import KERNEL, SIZES, TARGETS, kernel_matrix, naive_targets, rows

STARTS = np.cumsum([0, *SIZES])


def through(points: list[torch.Tensor]) -> inducing.SparsePosterior:
    to_examples = KERNEL.matrix(Products.between(points, rows()))
    among = KERNEL.matrix(Products.between(points, points))
    return condition_on_points(among, lambda c: to_examples[:, STARTS[c] : STARTS[c + 1]], SIZES, TARGETS)


def test_inducing_points_at_the_examples_give_the_exact_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inducing, "_JITTER", 0.0)
    exact, sparse = condition(kernel_matrix(), SIZES, TARGETS), through(rows())
    cross = KERNEL.matrix(Products.between(rows(7, seed=1), rows()))
    close = {"rtol": 1e-8, "atol": 1e-8}
    assert sparse.mean == pytest.approx(exact.mean, rel=1e-9)
    torch.testing.assert_close(cross @ sparse.weights, cross @ exact.weights, **close)
    torch.testing.assert_close(sparse.solve.quadratic_forms(cross), exact.solve.quadratic_forms(cross), **close)


def test_fewer_points_give_the_formulas_of_titsias_for_each_class() -> None:
    points = choose_points(rows(), SIZES, 8, np.random.RandomState(0))
    sparse, (targets, noise) = through(points), naive_targets()
    among = KERNEL.matrix(Products.between(points, points))
    among += inducing._JITTER * among.diagonal().mean() * torch.eye(len(among))
    examples = KERNEL.matrix(Products.between(points, rows()))
    cross = KERNEL.matrix(Products.between(rows(7, seed=1), points))
    for c in range(len(SIZES)):
        inner = torch.linalg.inv(among + examples / noise[:, c] @ examples.T)
        mean = cross @ inner @ examples @ ((targets[:, c] - sparse.mean) / noise[:, c])
        taken = ((cross @ (torch.linalg.inv(among) - inner)) * cross).sum(1)
        torch.testing.assert_close(cross @ sparse.weights[:, c], mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(sparse.solve.quadratic_forms(cross)[:, c], taken, rtol=1e-8, atol=1e-8)


def test_the_mean_has_the_largest_likelihood_of_the_approximation() -> None:
    points = choose_points(rows(), SIZES, 8, np.random.RandomState(0))
    among, examples = (KERNEL.matrix(Products.between(points, other)) for other in (points, rows()))
    among += inducing._JITTER * among.diagonal().mean() * torch.eye(len(among))
    targets, noise = naive_targets()
    inverses = torch.linalg.inv(examples.T @ torch.linalg.solve(among, examples) + torch.diag_embed(noise.T))
    expected = torch.einsum("cij,jc->", inverses, targets) / inverses.sum()
    assert through(points).mean == pytest.approx(expected.item(), rel=1e-9)


def test_points_are_centres_within_classes_each_class_with_one_at_least() -> None:
    points = choose_points(rows(), SIZES, 10, np.random.RandomState(0))
    assert [layer.shape[1] for layer in points] == [5, 3]
    assert 8 <= len(points[0]) == len(points[1]) <= 12
    beside, of_points = torch.cat(rows(), dim=1), torch.cat(points, dim=1)
    single = beside[STARTS[2]]  # the class of one example
    assert ((of_points - single).abs().sum(1) == 0).any()


def test_examples_that_are_the_same_are_one_point() -> None:
    same = [torch.ones(30, 5, dtype=torch.float64), torch.zeros(30, 3, dtype=torch.float64)]
    assert len(choose_points(same, SIZES, 20, np.random.RandomState(0))[0]) == 1
    twice = [torch.cat([layer, layer[-1:]]) for layer in rows(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(choose_points(twice, [9], 9, np.random.RandomState(0))[0]) == 8


def test_examples_that_count_several_times_are_as_good_as_repeated() -> None:
    repeats = torch.arange(sum(SIZES)) % 3 + 1
    again = [layer.repeat_interleave(repeats, dim=0) for layer in rows()]
    parts = repeats.split(SIZES)
    sizes, ends = [int(part.sum()) for part in parts], np.cumsum([0, *(int(part.sum()) for part in parts)])
    points, same = (
        choose_points(rows(), SIZES, 8, np.random.RandomState(0), repeats.double()),
        choose_points(again, sizes, 8, np.random.RandomState(0)),
    )
    assert all(torch.equal(a, b) for a, b in zip(points, same))
    among = KERNEL.between(points, points)
    once, often = KERNEL.between(points, rows()), KERNEL.between(points, again)
    weighted = condition_on_points(
        among, lambda c: once[:, STARTS[c] : STARTS[c + 1]], SIZES, TARGETS, repeats.double()
    )
    repeated = condition_on_points(among, lambda c: often[:, ends[c] : ends[c + 1]], sizes, TARGETS)
    cross = KERNEL.between(rows(7, seed=1), points)
    assert weighted.mean == pytest.approx(repeated.mean, rel=1e-8)
    torch.testing.assert_close(cross @ weighted.weights, cross @ repeated.weights, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        weighted.solve.quadratic_forms(cross), repeated.solve.quadratic_forms(cross), rtol=1e-7, atol=1e-7
    )
