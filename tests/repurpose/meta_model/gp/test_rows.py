import numpy as np
import pytest

from repurpose.meta_model.gp.rows import LayerRows

X = np.random.default_rng(0).normal(3, 2, (20, 7)).astype(np.float32)
LAYERS = {"a": np.arange(4), "b": np.arange(4, 7)}


def test_each_layer_is_centred_and_each_row_of_it_has_norm_one() -> None:
    layers = LayerRows.fit(X, LAYERS, unit_norm=True).transform(X)
    for columns, layer in zip(LAYERS.values(), layers):
        centred = X[:, columns] - X[:, columns].mean(axis=0, dtype=np.float64)
        assert np.allclose(layer, centred / np.linalg.norm(centred, axis=1, keepdims=True), rtol=0, atol=1e-12)


def test_without_norms_each_layer_has_one_number() -> None:
    layers = LayerRows.fit(X, LAYERS, unit_norm=False).transform(X)
    for columns, layer in zip(LAYERS.values(), layers):
        centred = X[:, columns] - X[:, columns].mean(axis=0, dtype=np.float64)
        assert np.allclose(layer, centred / (centred**2).sum(axis=1).mean() ** 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_features_of_any_size_come_to_the_same_rows(unit_norm: bool, scale: float) -> None:
    plain, scaled = X, X * np.float32(scale)
    first, second = (LayerRows.fit(x, LAYERS, unit_norm=unit_norm).transform(x)[0] for x in (plain, scaled))
    assert np.allclose(first, second, rtol=0, atol=1e-5)


def test_a_layer_that_never_varied_and_a_row_at_the_centre_are_zero() -> None:
    constant = X.copy()
    constant[:, :4] = 0.1
    scaling = LayerRows.fit(constant, LAYERS, unit_norm=True)
    assert not scaling.transform(constant)[0].any()
    assert not scaling.transform(X)[0].any()
    assert (
        not LayerRows.fit(X, LAYERS, unit_norm=True).transform(X.mean(axis=0, keepdims=True, dtype=np.float64))[1].any()
    )


@pytest.mark.parametrize("unit_norm", [True, False])
def test_rows_that_count_several_times_are_as_good_as_repeated(unit_norm: bool) -> None:
    weights = np.arange(len(X)) % 3 + 1.0
    found = LayerRows.fit(X, LAYERS, weights, unit_norm=unit_norm).transform(X)
    expected = LayerRows.fit(X.repeat(weights.astype(int), axis=0), LAYERS, unit_norm=unit_norm).transform(X)
    assert all(np.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(found, expected))
