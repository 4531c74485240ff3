import numpy as np
import pytest

from repurpose.data.scaling import BlockScaling

COLUMNS = {"a": np.arange(3), "b": np.arange(3, 8)}


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.hstack([rng.normal(5, 100, (50, 3)), rng.normal(-2, 0.01, (50, 5))]).astype(np.float32)


def test_layers_have_equal_mean_squared_row_norm_and_the_whole_sixteen() -> None:
    scaled = BlockScaling.fit(rows(), COLUMNS).transform(rows())
    squared = {name: (scaled[:, columns] ** 2).sum(axis=1).mean() for name, columns in COLUMNS.items()}
    assert squared["a"] == pytest.approx(squared["b"])
    assert np.sqrt((scaled**2).sum(axis=1).mean()) == pytest.approx(16)
    assert np.allclose(scaled.mean(axis=0), 0, rtol=0, atol=1e-6)
    assert scaled.dtype == np.float64


def test_one_number_scales_each_layer() -> None:
    factor = BlockScaling.fit(rows(), COLUMNS).factor
    assert len(set(factor[:3])) == len(set(factor[3:])) == 1


def test_a_constant_layer_is_centred_exactly_and_left_out_of_the_count() -> None:
    X = np.hstack([rows()[:, :3], np.full((50, 5), 0.1, np.float32)])
    scaled = BlockScaling.fit(X, COLUMNS).transform(X)
    assert not scaled[:, 3:].any()
    assert np.sqrt((scaled**2).sum(axis=1).mean()) == pytest.approx(16)


def test_folded_coefficients_do_on_raw_rows_what_they_did_on_scaled_ones() -> None:
    rng = np.random.default_rng(1)
    scaling = BlockScaling.fit(rows(), COLUMNS)
    coefficients, intercepts = rng.normal(size=(4, 8)), rng.normal(size=4)
    raw, shifted = scaling.fold_back(coefficients, intercepts)
    expected = scaling.transform(rows()) @ coefficients.T + intercepts
    assert np.allclose(rows().astype(np.float64) @ raw.T + shifted, expected)


def test_rows_that_count_several_times_are_scaled_as_if_they_were_repeated_and_none_counts_less_than_once() -> None:
    weights = np.random.default_rng(0).integers(1, 5, size=len(rows()))
    weighted, repeated = (
        BlockScaling.fit(rows(), COLUMNS, weights),
        BlockScaling.fit(rows().repeat(weights, axis=0), COLUMNS),
    )
    assert np.allclose(weighted.center, repeated.center, rtol=1e-12)
    assert np.allclose(weighted.factor, repeated.factor, rtol=1e-12)
    assert not np.allclose(weighted.factor, BlockScaling.fit(rows(), COLUMNS).factor, rtol=1e-3)
    assert np.allclose(
        BlockScaling.fit(rows(), COLUMNS, weights * 1e-3).factor, BlockScaling.fit(rows(), COLUMNS).factor
    )
