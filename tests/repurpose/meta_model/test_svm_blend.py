"""How the two kinds of machines are blended: which rows are left out, and what their losses choose."""

import numpy as np
import pytest
from scipy.special import log_softmax

from repurpose.data.folds import deal_balanced_folds
from repurpose.meta_model.svm import fit_against_rest, fit_pairs
from repurpose.meta_model.svm_blend import CURVED, LINEAR, Blend, choose_blend, fit_blended
from tests.repurpose.examples import blobs


def scores_of(n_rows: int, truth: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two kinds, and classes drawn from what they say by the weights in `truth`."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, n_rows, 4))
    logits = np.tensordot(truth, scores, axes=1)
    return scores, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("truth", [(4.0, 0.0), (0.5, 2.0), (2.5, 1.0)])
def test_many_rows_find_the_weights_that_made_them(truth: tuple[float, float]) -> None:
    blend = choose_blend(*scores_of(20_000, truth), None, LINEAR)
    assert np.allclose((blend.rest, blend.pairs), truth, atol=0.15)
    assert blend.sharpness == blend.rest + blend.pairs
    assert blend.share_of_pairs == blend.pairs / blend.sharpness


def test_the_weights_are_those_of_least_loss_and_prior_on_a_grid() -> None:
    scores, codes = scores_of(30, (1.0, 2.0))
    counts = np.random.default_rng(1).uniform(0.2, 4, size=30)
    grid = np.linspace(0, 4, 161)
    first, second = (each.ravel() for each in np.meshgrid(grid, grid, indexing="ij"))
    logits = first[:, None, None] * scores[0] + second[:, None, None] * scores[1]
    losses = -log_softmax(logits, axis=2)[:, np.arange(30), codes] @ counts
    best = np.argmin(losses + ((first - 2) ** 2 + (second - 1) ** 2) / (2 * 0.5**2))
    blend = choose_blend(scores, codes, counts, LINEAR)
    assert np.allclose((blend.rest, blend.pairs), (first[best], second[best]), atol=0.014)
    unweighted = choose_blend(scores, codes, None, LINEAR)
    assert abs(unweighted.rest - blend.rest) > 0.02


def test_without_rows_to_judge_the_weights_are_the_usual_ones() -> None:
    none = np.zeros((2, 0, 4))
    assert choose_blend(none, np.zeros(0, dtype=int), None, LINEAR) == Blend(2.0, 1.0)
    assert choose_blend(none, np.zeros(0, dtype=int), None, CURVED) == Blend(4.0, 0.5)
    assert choose_blend(none[:1], np.zeros(0, dtype=int), None, LINEAR) == Blend(2.0)


def test_scores_that_are_always_wrong_leave_a_little_sharpness() -> None:
    scores, codes = scores_of(2000, (-3.0, -3.0))
    assert 0 < choose_blend(scores, codes, None, LINEAR).sharpness < 0.01


def test_the_machines_kept_are_those_of_all_rows_blended_as_held_out_rows_say() -> None:
    X, y = blobs()
    X = X / np.sqrt(np.square(X).sum(axis=1).mean())
    kernel = X @ X.T
    machines, blend = fit_blended(kernel, y, 2.0, None, CURVED, np.random.RandomState(5))
    folds, scores = deal_balanced_folds(y, np.random.RandomState(5)), np.zeros((2, 60, 3))
    for out in (folds == fold for fold in range(5)):
        for kind, fit in enumerate((fit_against_rest, fit_pairs)):
            scores[kind, out] = fit(kernel[~out][:, ~out], y[~out], 3, 2.0, None).scores(kernel[out][:, ~out])
    by_hand = choose_blend(scores, y, None, CURVED)
    assert np.allclose((blend.rest, blend.pairs), (by_hand.rest, by_hand.pairs), rtol=1e-9)
    rest, pairs = (fit(kernel, y, 3, 2.0, None).scores(kernel) for fit in (fit_against_rest, fit_pairs))
    assert np.allclose(blend.sharpness * machines.scores(kernel), blend.rest * rest + blend.pairs * pairs)


def test_two_classes_have_one_machine_that_counts_once() -> None:
    X, y = blobs(n_classes=2)
    machines, blend = fit_blended(X @ X.T, y, 0.01, None, LINEAR, np.random.RandomState(5))
    assert (blend.pairs, blend.sharpness, blend.share_of_pairs) == (0.0, blend.rest, 0.0)
    assert np.array_equal(machines.weights, fit_against_rest(X @ X.T, y, 2, 0.01, None).weights)


def test_rows_of_a_group_are_held_out_together() -> None:
    X, y = blobs()
    groups = np.random.default_rng(0).integers(0, 15, len(y))
    kernel = X @ X.T / np.square(X).sum(axis=1).mean()
    _, blend = fit_blended(kernel, y, 2.0, None, CURVED, np.random.RandomState(5), groups)
    folds = deal_balanced_folds(y, np.random.RandomState(5), groups)
    scores = np.zeros((2, 60, 3))
    for fold in range(5):
        out = np.isin(groups, groups[folds == fold])
        for kind, fit in enumerate((fit_against_rest, fit_pairs)):
            scores[kind, out] = fit(kernel[~out][:, ~out], y[~out], 3, 2.0, None).scores(kernel[out][:, ~out])
    by_hand = choose_blend(scores, y, None, CURVED)
    assert np.allclose((blend.rest, blend.pairs), (by_hand.rest, by_hand.pairs), rtol=1e-9)
    _, without = fit_blended(kernel, y, 2.0, None, CURVED, np.random.RandomState(5))
    assert abs(without.rest - blend.rest) > 1e-3
