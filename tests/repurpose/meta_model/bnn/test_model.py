import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import softmax

from repurpose.meta_model.bnn import model
from repurpose.meta_model.bnn.model import BnnModel
from repurpose.meta_model.bnn.rows import PrincipalRows

SHAPES = [(4, 3), (5, 6), (7, 2), (2, 3)]


def some_model(width: float = 1.0, n_draws: int = 50) -> BnnModel:
    rng = np.random.default_rng(0)
    rows = PrincipalRows(rng.normal(size=9), np.ones(9), rng.normal(size=(9, 4)))
    means = [rng.normal(size=shape) for shape in SHAPES]
    deviations = [width * rng.random(shape) for shape in SHAPES]
    return BnnModel(rows, means, deviations, rng.normal(size=3), n_draws, 7)


def some_rows(n_rows: int = 20) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_rows, 9)).astype(np.float32)


def by_hand(found: BnnModel, X: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """One network after the other, one map after the other."""
    rows = ((X - found.rows.center) * found.rows.factor) @ found.rows.components
    skip, *hidden_maps, last = [m + d * rng.standard_normal(m.shape) for m, d in zip(found.means, found.deviations)]
    hidden = rows
    for weights in hidden_maps:
        hidden = np.maximum(hidden @ weights[:-1] + weights[-1], 0)
    return softmax(rows @ skip + hidden @ last + found.intercepts, axis=1)


def test_draws_are_those_of_networks_computed_one_by_one() -> None:
    found, X = some_model(), some_rows()
    rng = np.random.RandomState(3)
    expected = np.stack([by_hand(found, X, rng) for _ in range(5)])
    assert np.allclose(found.draws(X, 5, np.random.RandomState(3)), expected, rtol=0, atol=1e-12)


def test_probabilities_are_the_mean_of_the_draws() -> None:
    found, X = some_model(), some_rows()
    assert np.allclose(
        found.probabilities(X), found.draws(X, 50, np.random.RandomState(7)).mean(axis=0), rtol=0, atol=1e-12
    )


def test_neither_memory_nor_the_batch_changes_what_a_row_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    found, X = some_model(), some_rows()
    expected = found.probabilities(X)
    assert np.allclose(found.probabilities(X[7:8]), expected[7:8], rtol=0, atol=1e-12)
    monkeypatch.setattr(model, "_MAX_ELEMENTS", 1000)
    assert np.allclose(found.probabilities(X), expected, rtol=0, atol=1e-12)
    assert found.probabilities(X[:0]).shape == (0, 3)


def test_rows_and_draws_are_never_held_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, X = some_model(n_draws=100), some_rows(5000)
    expected = found.probabilities(X)
    monkeypatch.setattr(model, "_MAX_ELEMENTS", 5000)
    whole = 100 * 5000 * 3
    sizes = [draws.size for *_, draws in found._parts(X, 100, np.random.RandomState(7))]
    assert sum(sizes) == whole
    assert max(sizes) <= 5000
    tracemalloc.start()
    assert np.allclose(found.probabilities(X), expected, rtol=0, atol=1e-12)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * whole / 4


def test_no_class_is_ever_impossible() -> None:
    far = 1e6 * some_rows()
    for probabilities in (some_model().probabilities(far), some_model().draws(far, 3, np.random.RandomState(0))):
        assert probabilities.min() > 0
        assert np.allclose(probabilities.sum(axis=-1), 1, rtol=0, atol=1e-12)


def test_without_doubt_all_networks_are_one() -> None:
    draws = some_model(width=0.0).draws(some_rows(), 4, np.random.RandomState(0))
    assert np.array_equal(draws, np.broadcast_to(draws[0], draws.shape))


def test_torch_keeps_its_random_state() -> None:
    before = torch.get_rng_state()
    some_model().probabilities(some_rows())
    assert torch.equal(torch.get_rng_state(), before)
