import numpy as np
import pytest
from sklearn.decomposition import PCA

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.bnn.rows import PrincipalRows
from repurpose.meta_model.row_space import rotate_into_row_space
from tests.repurpose.examples import blobs


def fitted(X: np.ndarray) -> PrincipalRows:
    scaling = BlockScaling.fit(X, {"0": np.arange(X.shape[1])})
    return PrincipalRows.fit(*rotate_into_row_space(scaling.transform(X)), scaling)


@pytest.mark.parametrize(("n_features", "n_kept"), [(4, 4), (100, 59), (400, 59)])
def test_rows_are_the_principal_components_up_to_one_number(n_features: int, n_kept: int) -> None:
    X, _ = blobs(n_features=n_features)
    rows, by_scikit_learn = fitted(X).transform(X), PCA(n_kept).fit_transform(X.astype(np.float64))
    assert rows.shape == (60, n_kept)
    assert np.square(rows).mean() == pytest.approx(1)
    signs = np.sign((rows * by_scikit_learn).sum(axis=0))
    ratio = np.linalg.norm(rows) / np.linalg.norm(by_scikit_learn)
    assert np.allclose(rows, signs * ratio * by_scikit_learn, rtol=0, atol=1e-5)


def test_no_more_than_256_components_are_kept() -> None:
    X = np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)
    assert fitted(X).transform(X[:2]).shape == (2, 256)


@pytest.mark.parametrize("n_features", [4, 100])
def test_coefficients_give_the_same_outputs(n_features: int) -> None:
    X, _ = blobs(n_features=n_features)
    rows = fitted(X)
    scaled = BlockScaling(rows.center, rows.factor).transform(X)
    coefficients = np.random.default_rng(0).normal(size=(3, 60)) @ scaled
    assert np.allclose(rows.transform(X) @ rows.coefficients(coefficients), scaled @ coefficients.T, rtol=1e-6)


def test_features_that_never_vary_give_no_component() -> None:
    X = np.full((10, 3), 0.1, np.float32)
    rows = fitted(X)
    assert rows.transform(X).shape == (10, 0)
    assert rows.coefficients(np.ones((2, 3))).shape == (0, 2)
    assert rows.length == 1


def test_rows_that_count_several_times_give_the_components_of_repeated_ones() -> None:
    X = blobs(n_samples=20)[0].astype(np.float64)
    weights = np.arange(20) % 3 + 1
    scaling = BlockScaling.fit(X, {"0": np.arange(4)}, weights)
    found = PrincipalRows.fit(scaling.transform(X), None, scaling, weights)
    expected = PrincipalRows.fit(scaling.transform(X).repeat(weights, axis=0), None, scaling)
    assert np.allclose(np.abs(found.components), np.abs(expected.components), rtol=1e-6, atol=1e-9)  # up to their signs
