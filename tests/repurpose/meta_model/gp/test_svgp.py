from typing import Any

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from gpytorch.optim import NGD
from sklearn.metrics import log_loss

from repurpose import GpRepurposer, load
from repurpose.meta_model.gp import svgp
from repurpose.meta_model.gp.inducing import condition_on_points
from repurpose.meta_model.gp.targets import DirichletTargets
from tests.repurpose.examples import identity_network
from tests.repurpose.meta_model.gp.examples import KERNEL, SIZES, codes, rows
from tests.repurpose.meta_model.test_gp_repurposer import digits

TARGETS = DirichletTargets.of(1e-2)


def learned(points: list[torch.Tensor], **options: Any) -> svgp.LearnedPoints:
    rng = np.random.RandomState(0)
    where = {"mean": -5.0, "device": torch.device("cpu"), "random_state": rng}
    return svgp.learn_by_svgp(KERNEL, points, rows(), codes(), TARGETS, **{**where, **options})


def test_the_kernel_of_gpytorch_there_and_back_is_ours() -> None:
    module = svgp._in_gpytorch(KERNEL, [5, 3])
    beside = torch.cat(rows(), dim=1)
    matrix = module(beside, beside).to_dense()
    torch.testing.assert_close(matrix, KERNEL.between(rows(), rows()), rtol=1e-8, atol=1e-8)
    read_back = svgp._out_of_gpytorch(module, 2)
    assert np.allclose(read_back.logarithms, KERNEL.logarithms, rtol=0, atol=1e-9)


def test_its_variational_distribution_goes_where_the_closed_form_is() -> None:
    """With kernel, points and mean kept, natural gradients over all examples end at the posterior of `inducing`."""
    points, ends, new = [layer[::3].clone() for layer in rows()], np.cumsum(SIZES), rows(7, seed=1)
    among, to_examples = KERNEL.between(points, points), KERNEL.between(points, rows())
    exact = condition_on_points(among, lambda c: to_examples[:, ends[c] - SIZES[c] : ends[c]], SIZES, TARGETS)
    model = svgp._model(svgp._in_gpytorch(KERNEL, [5, 3]), torch.cat(points, dim=1), len(SIZES), exact.mean)
    natural = NGD(model.variational_parameters(), num_data=len(codes()), lr=0.5)
    beside, classes = torch.cat(rows(), dim=1), torch.from_numpy(codes())
    for _ in range(40):
        natural.zero_grad()
        svgp._loss(model, beside, classes, len(SIZES), TARGETS, len(codes())).backward()
        natural.step()
    with torch.no_grad():
        found = model.eval()(torch.cat(new, dim=1))
    cross = KERNEL.between(new, points)
    variances = KERNEL.diagonal(new)[:, None] - exact.solve.quadratic_forms(cross)
    torch.testing.assert_close(found.variance.T, variances, rtol=1e-2, atol=1e-3)  # gpytorch adds jitter
    torch.testing.assert_close(found.mean.T, exact.mean + cross @ exact.weights, rtol=1e-2, atol=1e-3)


def test_kernel_and_points_move_and_the_same_seed_moves_them_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svgp, "_STEPS", 10)
    points = [layer[::3].clone() for layer in rows()]
    before = torch.get_rng_state()
    first, second = learned(points), learned(points)
    assert torch.equal(torch.get_rng_state(), before)
    assert [layer.shape for layer in first.points] == [layer.shape for layer in points]
    assert not torch.allclose(first.points[0], points[0])
    assert not np.allclose(first.kernel.logarithms, KERNEL.logarithms, rtol=0, atol=1e-2)
    assert torch.equal(first.points[1], second.points[1])
    assert np.array_equal(first.kernel.logarithms, second.kernel.logarithms)


@pytest.mark.parametrize("kernel", [None, ScaleKernel(RBFKernel())])
def test_few_points_learned_from_all_examples_are_no_worse_than_centres(
    kernel: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svgp, "_STEPS", 60)
    train, test = digits(500), digits(800, start=900)
    options = {"n_inducing": 20, "random_state": 0, "kernel": kernel}
    losses = []
    for by_svgp in (False, True):
        repurposer = GpRepurposer(identity_network(), ["0"], svgp=by_svgp, **options).repurpose(train)
        losses.append(log_loss(test.labels, repurposer.predict_probability(test)))
    assert losses[1] < losses[0]
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network(), **({"kernel": kernel} if kernel else {}))
    assert np.array_equal(loaded.predict_probability(test), repurposer.predict_probability(test))


def test_svgp_changes_nothing_where_the_posterior_is_exact() -> None:
    train, found = digits(100), []
    for by_svgp in (False, True):
        repurposer = GpRepurposer(identity_network(), ["0"], svgp=by_svgp, random_state=0).repurpose(train)
        found.append(repurposer.predict_probability(train))
    assert np.array_equal(*found)


def test_examples_that_count_several_times_move_kernel_and_points_as_repeated_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(svgp, "_STEPS", 10)
    points, repeats = [layer[::3].clone() for layer in rows()], torch.arange(sum(SIZES)) % 3 + 1
    where = {"mean": -5.0, "device": torch.device("cpu")}
    again = [layer.repeat_interleave(repeats, dim=0) for layer in rows()]
    found = learned(points, repeats=repeats.double())
    rng = np.random.RandomState(0)
    expected = svgp.learn_by_svgp(
        KERNEL, points, again, codes().repeat(repeats.numpy()), TARGETS, random_state=rng, **where
    )
    once = learned(points)
    assert np.allclose(found.kernel.logarithms, expected.kernel.logarithms, rtol=1e-6)
    torch.testing.assert_close(found.points, expected.points, rtol=1e-6, atol=1e-6)
    assert not np.allclose(found.kernel.logarithms, once.kernel.logarithms, rtol=1e-4)
