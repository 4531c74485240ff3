import numpy as np
import pytest
import torch
from scipy.special import softmax

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model import laplace
from repurpose.meta_model.laplace import KroneckerCovariance, WholeCovariance, approximate_posterior, contrasts
from repurpose.meta_model.row_space import rotate_into_row_space


def problem(n_samples: int, n_features: int, n_classes: int) -> tuple[np.ndarray, ...]:
    """Features, coefficients (n_classes, n_features + 1), probabilities and weights of rows."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n_samples, n_features)).astype(np.float32)
    coefficients = rng.normal(size=(n_classes, n_features + 1))
    logits = features @ coefficients[:, :-1].T + coefficients[:, -1]
    return features, coefficients, softmax(logits, axis=1), rng.uniform(0.5, 2, n_samples)


def unscaled(n_features: int) -> BlockScaling:
    return BlockScaling(np.zeros(n_features), np.ones(n_features))


def hessian_by_autograd(
    features: np.ndarray, coefficients: np.ndarray, weights: np.ndarray, precision: float
) -> np.ndarray:
    """Of the penalised, weighted log loss; any label will do, since the Hessian does not depend on it."""
    inputs = torch.from_numpy(np.hstack([features, np.ones((len(features), 1))]))

    def loss(flat: torch.Tensor) -> torch.Tensor:
        logits = inputs @ flat.reshape(coefficients.shape).T
        losses = torch.logsumexp(logits, dim=1) - logits[:, 0]
        return (torch.from_numpy(weights) * losses).sum() + precision / 2 * flat.square().sum()

    return torch.autograd.functional.hessian(loss, torch.from_numpy(coefficients.ravel())).numpy()


def variances_by_hand(features: np.ndarray, hessian: np.ndarray, n_classes: int) -> np.ndarray:
    """Of centred logits, averaged over the classes."""
    covariance = np.linalg.inv(hessian).reshape(n_classes, features.shape[1] + 1, n_classes, -1)
    inputs = np.hstack([features, np.ones((len(features), 1))])
    of_logits = np.einsum("ni,cidj,nj->ncd", inputs, covariance, inputs)
    centring = np.eye(n_classes) - 1 / n_classes
    return np.trace(centring @ of_logits @ centring, axis1=1, axis2=2) / n_classes


@pytest.mark.parametrize(("n_samples", "n_features"), [(30, 4), (5, 9)])
@pytest.mark.parametrize("n_classes", [3, 4])
def test_variances_equal_those_of_the_explicit_hessian(n_samples: int, n_features: int, n_classes: int) -> None:
    features, coefficients, probabilities, weights = problem(n_samples, n_features, n_classes)
    rows, basis = rotate_into_row_space(features.astype(np.float64))
    posterior = approximate_posterior(rows, basis, unscaled(n_features), probabilities, weights, 0.7)
    assert isinstance(posterior.covariance, WholeCovariance)
    new = np.random.default_rng(1).normal(size=(6, n_features)).astype(np.float32)
    hessian = hessian_by_autograd(features, coefficients, weights, 0.7)
    assert np.allclose(posterior.variances(new), variances_by_hand(new, hessian, n_classes), rtol=1e-8)


def test_two_classes_have_the_hessian_of_binary_logistic_regression() -> None:
    features, coefficients, _, weights = problem(30, 4, 2)
    inputs = np.hstack([features, np.ones((30, 1))])
    positive = 1 / (1 + np.exp(-inputs @ coefficients[1]))
    probabilities = np.stack([1 - positive, positive], axis=1)
    posterior = approximate_posterior(features.astype(float), None, unscaled(4), probabilities, weights, 0.7)
    curvature = weights * positive * (1 - positive)
    covariance = np.linalg.inv(inputs.T @ (inputs * curvature[:, None]) + 0.7 * np.eye(5))
    by_hand = np.einsum("ni,ij,nj->n", inputs, covariance, inputs)
    assert np.allclose(posterior.variances(features), by_hand / 4, rtol=1e-10)  # centred: half the logit for each class


def test_draws_have_the_covariance_of_the_explicit_hessian() -> None:
    features, coefficients, probabilities, weights = problem(30, 2, 3)
    posterior = approximate_posterior(features.astype(float), None, unscaled(2), probabilities, weights, 5.0)
    logits = features[:2] @ coefficients[:, :-1].T
    draws = np.log(posterior.draws(logits, features[:2], np.random.RandomState(0), 100_000))
    draws -= draws.mean(axis=2, keepdims=True)
    covariance = np.linalg.inv(hessian_by_autograd(features, coefficients, weights, 5.0)).reshape(3, 3, 3, 3)
    inputs, centring = np.hstack([features[:2], np.ones((2, 1))]), np.eye(3) - 1 / 3
    for row in range(2):
        of_logits = np.einsum("i,cidj,j->cd", inputs[row], covariance, inputs[row])
        assert np.allclose(np.cov(draws[:, row].T), centring @ of_logits @ centring, rtol=0, atol=0.01)
        assert np.allclose(draws[:, row].mean(axis=0), logits[row] - logits[row].mean(), rtol=0, atol=0.01)


@pytest.mark.parametrize(("n_samples", "n_features"), [(30, 4), (5, 9)])
def test_the_kronecker_form_equals_its_product_written_out(
    n_samples: int, n_features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laplace, "_MAX_PARAMETERS", 0)
    features, _, probabilities, weights = problem(n_samples, n_features, 4)
    rows, basis = rotate_into_row_space(features.astype(np.float64))
    posterior = approximate_posterior(rows, basis, unscaled(n_features), probabilities, weights, 0.7)
    assert isinstance(posterior.covariance, KroneckerCovariance)
    inputs = np.hstack([features, np.ones((n_samples, 1))])
    curvatures = np.array([np.diag(p) - np.outer(p, p) for p in probabilities])
    of_classes = np.average(curvatures, axis=0, weights=weights)
    of_inputs = inputs.T @ (inputs * weights[:, None])
    hessian = np.kron(of_classes, of_inputs) + 0.7 * np.eye(4 * (n_features + 1))
    assert np.allclose(posterior.variances(features), variances_by_hand(features, hessian, 4), rtol=1e-8)


@pytest.mark.parametrize("most", [0, 2000])
def test_draws_and_variances_agree_and_do_not_depend_on_the_batch(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laplace, "_MAX_PARAMETERS", most)
    features, _, probabilities, weights = problem(6, 9, 4)
    rows, basis = rotate_into_row_space(features.astype(np.float64))
    posterior = approximate_posterior(rows, basis, unscaled(9), probabilities, weights, 3.0)
    new = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    logits = np.zeros((5, 4))
    draws = posterior.draws(logits, new, np.random.RandomState(0), 20_000)
    centred = np.log(draws) - np.log(draws).mean(axis=2, keepdims=True)
    assert np.allclose(centred.var(axis=0).mean(axis=1), posterior.variances(new), rtol=0.05)
    monkeypatch.setattr(laplace, "_MAX_ELEMENTS", 1)
    assert np.allclose(posterior.draws(logits, new, np.random.RandomState(0), 20_000), draws, rtol=0, atol=1e-12)
    assert np.allclose(posterior.variances(new[[3]]), posterior.variances(new)[3], rtol=1e-12)
    assert posterior.variances(new[:0]).shape == (0,)


@pytest.mark.parametrize("n_classes", [2, 3, 50])
def test_contrasts_leave_out_what_all_logits_share(n_classes: int) -> None:
    basis = contrasts(n_classes)
    assert np.allclose(basis.sum(axis=0), 0)
    assert np.allclose(basis.T @ basis, np.eye(n_classes - 1) * (0.5 if n_classes == 2 else 1))


@pytest.mark.filterwarnings("ignore")
def test_laplace_torch_finds_the_same_covariance_of_logits() -> None:
    oracle = pytest.importorskip("laplace")
    features, coefficients, probabilities, _ = problem(30, 4, 3)
    network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(coefficients[:, :-1]))
        network[1].bias.copy_(torch.from_numpy(coefficients[:, -1]))
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(features), torch.arange(30) % 3)
    theirs = oracle.Laplace(
        network, "classification", subset_of_weights="last_layer", hessian_structure="full", prior_precision=0.7
    )
    theirs.fit(torch.utils.data.DataLoader(pairs, batch_size=10))
    _, of_logits = theirs._glm_predictive_distribution(torch.from_numpy(features[:5]))
    centring = np.eye(3) - 1 / 3
    expected = np.trace(centring @ of_logits.detach().numpy() @ centring, axis1=1, axis2=2) / 3
    posterior = approximate_posterior(features.astype(float), None, unscaled(4), probabilities, None, 0.7)
    assert np.allclose(posterior.variances(features[:5]), expected, rtol=1e-4)
