from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, RBFKernel, RFFKernel, ScaleKernel
from gpytorch.priors import LogNormalPrior
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import Matern
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score

from model_handler import Features
from repurpose import GpRepurposer, load
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.fitting import learn_gpytorch_kernel
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel, kernel_mistakes
from tests.repurpose.examples import blobs, identity_network, small_network
from tests.repurpose.meta_model.gp.examples import KERNEL, SIZES, TARGETS, kernel_matrix, rows


def scaled(kernel: Kernel, scale: float = 1.0, **numbers: float) -> ScaleKernel:
    kernel.initialize(**numbers)
    whole = ScaleKernel(kernel).double()
    whole.outputscale = scale
    return whole


def ours_written_in_gpytorch() -> Kernel:
    total = None
    for layer, columns in enumerate((range(5), range(5, 8))):
        a, s, b = (numbers[layer] for numbers in (KERNEL.radial, KERNEL.lengthscale, KERNEL.linear))
        radial = scaled(RBFKernel(active_dims=tuple(columns)).double(), a, lengthscale=s)
        linear = LinearKernel(active_dims=tuple(columns)).double().initialize(variance=b)
        total = radial + linear if total is None else total + radial + linear
    return total


def test_our_kernel_written_in_gpytorch_gives_the_same_matrix_and_diagonal() -> None:
    kernel, new = GpytorchKernel.of(ours_written_in_gpytorch()), rows(6, seed=1)
    torch.testing.assert_close(kernel.matrix(rows()), kernel_matrix(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(kernel.between(new, rows()), KERNEL.between(new, rows()), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(kernel.diagonal(new), KERNEL.diagonal(new), rtol=1e-8, atol=1e-8)


def test_nothing_near_the_learned_kernel_has_more_evidence_times_prior() -> None:
    """The matrices and the density of the prior are computed by scikit-learn and by hand."""
    module = scaled(MaternKernel(nu=2.5, lengthscale_prior=LogNormalPrior(0.0, 0.5)).double(), 8.0, lengthscale=2.0)
    learned = learn_gpytorch_kernel(module, rows(), SIZES, TARGETS, max_function_evaluations=200)
    beside = torch.cat(rows(), dim=1).numpy()

    def objective(scale: float, lengthscale: float) -> float:
        matrix = torch.from_numpy(scale * Matern(lengthscale, nu=2.5)(beside))
        return (
            condition(matrix, SIZES, TARGETS).log_evidence - np.log(lengthscale) ** 2 / (2 * 0.25) - np.log(lengthscale)
        )

    assert isinstance(learned.kernel, GpytorchKernel)
    found = learned.kernel.module
    scale, lengthscale = found.outputscale.item(), found.base_kernel.lengthscale.item()
    best = objective(scale, lengthscale)
    assert 1 < learned.n_evaluations < 200
    assert best > objective(8.0, 2.0) + 0.1
    for up in (0.97, 1.03):
        assert objective(up * scale, lengthscale) < best
        assert objective(scale, up * lengthscale) < best
    assert (module.outputscale.item(), module.base_kernel.lengthscale.item()) == pytest.approx((8.0, 2.0))


def test_a_number_that_needs_no_gradient_stays_where_it_is() -> None:
    module = scaled(RBFKernel().double(), 3.0, lengthscale=1.5)
    module.base_kernel.raw_lengthscale.requires_grad_(False)
    found = learn_gpytorch_kernel(module, rows(), SIZES, TARGETS, max_function_evaluations=30).kernel.module
    assert found.base_kernel.lengthscale.item() == pytest.approx(1.5)
    assert found.outputscale.item() != pytest.approx(3.0)
    module.requires_grad_(False)
    still = learn_gpytorch_kernel(module, rows(), SIZES, TARGETS, max_function_evaluations=30)
    assert still.n_evaluations == 0
    assert still.posterior.log_evidence == pytest.approx(
        condition(GpytorchKernel.of(module).between(rows(), rows()), SIZES, TARGETS).log_evidence
    )


def test_the_evidence_is_computed_as_often_as_a_repurposer_says() -> None:
    X, y = blobs()
    options = {"kernel": scaled(RBFKernel(), 10.0), "random_state": 0}
    few, many = (
        GpRepurposer(identity_network(), ["0"], max_function_evaluations=most, **options).repurpose(X, y)
        for most in (2, 30)
    )
    assert few.n_function_evaluations_ <= 4 < many.n_function_evaluations_


def digits(n_rows: int, start: int = 0) -> Features:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[start : start + n_rows]
    return Features({"0": X[order]}, y[order])


@pytest.mark.parametrize("n_inducing", ["auto", 60])
def test_a_kernel_of_gpytorch_serves_exact_and_through_points(n_inducing: Any) -> None:
    train, test = digits(200), digits(500, start=200)
    kernel = scaled(MaternKernel(nu=2.5), 10.0)
    repurposer = GpRepurposer(identity_network(), ["0"], kernel=kernel, n_inducing=n_inducing, random_state=0)
    repurposer.repurpose(train)
    assert log_loss(test.labels, repurposer.predict_probability(test)) < (0.4 if n_inducing == "auto" else 0.6)
    assert (repurposer.predict_uncertainty(test).epistemic > 0).all()
    assert isinstance(repurposer.kernel_, ScaleKernel)
    assert repurposer.kernel_.outputscale.item() != pytest.approx(10.0)
    assert kernel.outputscale.item() == pytest.approx(10.0)
    assert not hasattr(repurposer, "lengthscale_")


def test_a_saved_repurposer_asks_for_its_kernel_and_knows_another(tmp_path: Any) -> None:
    network, (X, y) = identity_network(), blobs()
    repurposer = GpRepurposer(network, ["0"], kernel=scaled(MaternKernel(), 10.0), random_state=0).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"load\(path, kernel=...\)"):
        load(tmp_path / "saved", source_model=network)
    loaded = load(tmp_path / "saved", source_model=network, kernel=ScaleKernel(MaternKernel()))
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with pytest.raises(ValueError, match="kernel is not the one of training"):
        load(tmp_path / "saved", source_model=network, kernel=LinearKernel()).predict_label(X)
    for other in (ScaleKernel(RBFKernel()), ScaleKernel(MaternKernel(nu=0.5)), None):  # most with the same names
        with pytest.raises(ValueError, match="kernel is not the one of training"):
            loaded.set_params(kernel=other).predict_label(X)
    with pytest.raises(ValueError, match="the kernel of gpytorch is with the repurposer"):
        loaded.target_model_.latent(X)


@pytest.mark.parametrize("scale", [1e-9, 10.0])
def test_kernels_agree_to_rounding_whatever_their_scale(scale: float) -> None:
    module = scaled(MaternKernel(nu=2.5), scale)
    state = GpytorchKernel.of(module).state(rows())
    for deviation, is_same in ((0.0, True), (1e-10, True), (1e-6, False)):
        seen = replace(state, values=state.values * (1 + deviation))
        if is_same:
            assert seen.given_to(module).module.outputscale.item() == pytest.approx(scale)
        else:
            with pytest.raises(ValueError, match="with what was learned, it has other values"):
                seen.given_to(module)


def test_searches_and_threads_take_kernels() -> None:
    X, y = blobs()
    kernels = [scaled(RBFKernel(), 10.0), scaled(MaternKernel(nu=1.5), 10.0)]
    repurposer = GpRepurposer(small_network(), ["2"], random_state=0)
    search = GridSearchCV(repurposer, {"kernel": [None, *kernels]}, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == (60,)
    alone = cross_val_score(repurposer.set_params(kernel=kernels[1]), X, y, cv=6)
    with joblib.parallel_config("threading", n_jobs=3):
        assert np.array_equal(cross_val_score(repurposer, X, y, cv=6), alone)


class Indefinite(Kernel):
    """Minus a linear kernel, as a user's mistake could have it."""

    def forward(self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **_: Any) -> torch.Tensor:
        product = -1e6 * (x1 @ x2.transpose(-2, -1))
        return product.diagonal(dim1=-2, dim2=-1) if diag else product


def test_what_is_no_kernel_is_refused() -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match=r"kernel must be a kernel of gpytorch, such as .* got 'rbf'"):
        GpRepurposer(identity_network(), ["0"], kernel="rbf").repurpose(X, y)  # type: ignore[arg-type]
    (mistake,) = kernel_mistakes(RBFKernel(batch_shape=torch.Size([3])))
    assert "no batch shape, since all classes share it, got (3,)" in mistake
    with pytest.raises(ValueError, match="is not positive definite, even with jitter"):
        GpRepurposer(identity_network(), ["0"], kernel=Indefinite()).repurpose(X, y)


def test_a_kernel_that_does_not_fit_the_features_is_refused_with_their_number() -> None:
    X, y = blobs()
    for kernel in (RBFKernel(ard_num_dims=3), ScaleKernel(RBFKernel(active_dims=(0, 9)))):
        with pytest.raises(ValueError, match="kernel cannot be computed on rows of 4 features, which ard_num_dims"):
            GpRepurposer(identity_network(), ["0"], kernel=kernel).repurpose(X, y)


def test_a_kernel_that_a_copy_could_not_compute_again_is_refused_before_anything_is_learned() -> None:
    X, y = blobs()
    unsized, sized = (ScaleKernel(RFFKernel(num_samples=20, **size)) for size in ({}, {"num_dims": 4}))
    with pytest.raises(ValueError, match=r"kernel makes base_kernel\.randn_weights when it is first computed"):
        GpRepurposer(identity_network(), ["0"], kernel=unsized).repurpose(X, y)
    learned = GpRepurposer(identity_network(), ["0"], kernel=sized).repurpose(X, y)
    assert learned.predict_probability(X).shape == (60, 3)
