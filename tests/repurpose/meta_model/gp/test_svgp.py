from typing import Any

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
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
    chance = np.random.RandomState(0)
    where = {"mean": -5.0, "device": torch.device("cpu"), "random_state": chance}
    return svgp.learn_by_svgp(KERNEL, points, rows(), codes(), TARGETS, **{**where, **options})


def test_the_kernel_of_gpytorch_there_and_back_is_ours() -> None:
    module = svgp._in_gpytorch(KERNEL, [5, 3])
    beside = torch.cat(rows(), dim=1)
    matrix = module(beside, beside).to_dense()
    torch.testing.assert_close(matrix, KERNEL.between(rows(), rows()), rtol=1e-8, atol=1e-8)
    twin = svgp._out_of_gpytorch(module, 2)
    assert np.allclose(twin.logarithms, KERNEL.logarithms, atol=1e-9)


def test_its_variational_distribution_goes_where_the_closed_form_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernel and points kept, natural gradients over all examples end at the posterior of `inducing`."""
    points = [layer[::3].clone() for layer in rows()]
    model = svgp._model(svgp._in_gpytorch(KERNEL, [5, 3]), torch.cat(points, dim=1), len(SIZES), mean=-5.0)
    from gpytorch.optim import NGD

    natural = NGD(model.variational_parameters(), num_data=len(codes()), lr=0.5)
    beside, classes = torch.cat(rows(), dim=1), torch.from_numpy(codes())
    for _ in range(60):
        natural.zero_grad()
        svgp._loss(model, beside, classes, len(SIZES), TARGETS, len(codes())).backward()
        natural.step()
    ends = np.cumsum(SIZES)
    to_examples = KERNEL.between(points, rows())
    exact = condition_on_points(
        KERNEL.between(points, points), lambda c: to_examples[:, ends[c] - SIZES[c] : ends[c]], SIZES, TARGETS
    )
    new = rows(7, seed=1)
    cross = KERNEL.between(new, points)
    with torch.no_grad():
        found = model.eval()(torch.cat(new, dim=1))
    variances = KERNEL.diagonal(new)[:, None] - exact.solve.quadratic_forms(cross)
    torch.testing.assert_close(found.variance.T, variances, rtol=1e-2, atol=1e-3)
    steps = (found.mean.T - found.mean.T.mean(1, keepdim=True)), cross @ exact.weights
    torch.testing.assert_close(steps[0], steps[1] - steps[1].mean(1, keepdim=True), rtol=0.05, atol=0.1)


def test_kernel_and_points_move_and_the_same_seed_moves_them_alike() -> None:
    points = [layer[::3].clone() for layer in rows()]
    first, second = learned(points), learned(points)
    assert [layer.shape for layer in first.points] == [layer.shape for layer in points]
    assert not torch.allclose(first.points[0], points[0])
    assert not np.allclose(first.kernel.logarithms, KERNEL.logarithms, atol=1e-2)
    assert torch.equal(first.points[1], second.points[1])
    assert np.array_equal(first.kernel.logarithms, second.kernel.logarithms)


@pytest.mark.parametrize("kernel", [None, ScaleKernel(RBFKernel())])
def test_few_points_learned_from_all_examples_are_no_worse_than_centres(kernel: Any, tmp_path: Any) -> None:
    train, test = digits(900), digits(800, start=900)
    options = {"n_inducing": 30, "random_state": 0, "kernel": kernel}
    losses = []
    for by_svgp in (False, True):
        repurposer = GpRepurposer(identity_network(), ["0"], svgp=by_svgp, **options).repurpose(train)
        losses.append(log_loss(test.labels, repurposer.predict_probability(test)))
    print(losses)
    assert losses[1] < losses[0] + 0.01
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network(), **({"kernel": kernel} if kernel else {}))
    assert np.array_equal(loaded.predict_probability(test), repurposer.predict_probability(test))
