"""A Gaussian process from shards is the one that the same rows give in memory."""

import numpy as np
import pytest

from model_handler import Features
from repurpose import GpRepurposer
from tests.repurpose.meta_model.sharded.examples import NETWORK, InShards, few_fit, simulated


def unbalanced() -> tuple[Features, Features]:
    """One class has fewer rows than there are points, the others more."""
    train, test = simulated()
    labels = np.array(train.labels)
    zeros = np.flatnonzero(labels == 0)
    labels[zeros] = 1
    labels[zeros[::15]] = 0
    return Features(train.values, labels), test


@pytest.mark.parametrize("apply_l2_norm", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_and_variances_are_those_of_the_rows_in_memory(
    monkeypatch: pytest.MonkeyPatch, apply_l2_norm: bool, weighted: bool
) -> None:
    train, test = unbalanced()
    weights = None
    if weighted:
        weights = 2 * np.random.RandomState(0).rand(len(train))
        weights[:40] = 0
    options = {"n_inducing": 30, "max_function_evaluations": 5, "random_state": 3, "apply_l2_norm": apply_l2_norm}
    whole = GpRepurposer(NETWORK, **options).repurpose(train, sample_weight=weights)
    few_fit(monkeypatch)
    shards = InShards(train)
    parts = GpRepurposer(NETWORK, **options).repurpose(shards, sample_weight=weights)
    assert parts.n_inducing_ == whole.n_inducing_ < 40
    np.testing.assert_allclose(parts.predict_probability(test), whole.predict_probability(test), atol=1e-6)
    found, expected = parts.predict_uncertainty(test).variance, whole.predict_uncertainty(test).variance
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert shards.n_passes == 2  # moments, and what the classes leave behind
    assert parts.n_rows_seen_ == (len(train) if weights is None else len(train) - 40)


def test_points_come_from_a_subset_where_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = unbalanced()
    few_fit(monkeypatch)
    monkeypatch.setattr("repurpose.meta_model.gp_repurposer.N_IN_MEMORY", 200)
    repurposer = GpRepurposer(NETWORK, n_inducing=30, max_function_evaluations=5, random_state=3).repurpose(
        InShards(train)
    )
    again = GpRepurposer(NETWORK, n_inducing=30, max_function_evaluations=5, random_state=3).repurpose(InShards(train))
    assert repurposer.score(test) > 0.6
    np.testing.assert_array_equal(repurposer.predict_probability(test), again.predict_probability(test))


@pytest.mark.parametrize("options", [{"n_inducing": None}, {"svgp": True, "n_inducing": 20}])
def test_what_needs_all_rows_at_once_says_so(monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    few_fit(monkeypatch)
    with pytest.raises(ValueError, match=r"needs all rows at once; give features\[:\]"):
        GpRepurposer(NETWORK, **options).repurpose(InShards(simulated()[0]))
