"""At held numbers, the posterior of changed rows is that of the formulas, by a new solve and by updates alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from repurpose import GpRepurposer
from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating.held import refit_held, update_held
from tests.repurpose.examples import blobs, identity_network

X, Y = blobs(48, n_classes=4)
NEW = np.random.RandomState(1).normal(size=(9, 4)).astype(np.float32) * 5
COLUMNS = {"0": np.arange(4)}


def trained(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> GpRepurposer:
    repurposer = GpRepurposer(identity_network(), ["0"], random_state=0, max_function_evaluations=5)
    return repurposer.repurpose((rows, labels), sample_weight=weights)


def change(
    before: np.ndarray, now: np.ndarray, new_code: list[int], classes: list[int], weights: np.ndarray | None = None
) -> ChangedRows:
    """Rows of X numbered `before`, whose labels were those there, become those numbered `now`, of `classes`."""
    of_before = np.unique(Y[before], return_inverse=True)[1]
    came_from = np.array([np.flatnonzero(before == row)[0] if row in before else -1 for row in now])
    counts = (None, None) if weights is None else (weights[now], weights[before])
    codes = np.searchsorted(classes, Y[now])
    return ChangedRows(
        X[now], codes, counts[0], came_from, of_before, counts[1], np.array(classes), np.array(new_code), COLUMNS
    )


def by_the_formulas(repurposer: GpRepurposer, rows: ChangedRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the latent functions at NEW, by one inverse a class and a search for the prior mean."""
    model, targets = repurposer.target_model_, DirichletTargets.of(repurposer.alpha_eps_)
    known, new = model.rows.transform(rows.matrix), model.rows.transform(NEW)
    kernel, cross = (model.kernel.between(known, known).numpy(), model.kernel.between(new, known).numpy())
    counts = np.ones(len(rows.codes)) if rows.weights is None else rows.weights
    inverses, wanted = [], []
    for c in range(len(rows.classes)):
        own = rows.codes == c
        inverses.append(np.linalg.inv(kernel + np.diag(np.where(own, targets.own_noise, targets.other_noise) / counts)))
        wanted.append(np.where(own, targets.own, targets.other))
    # The derivative of the evidence by the mean, which is linear in it, is zero.
    mean = sum(inverse.sum(0) @ y for inverse, y in zip(inverses, wanted)) / sum(map(np.sum, inverses))
    means = np.stack([mean + cross @ inverse @ (y - mean) for inverse, y in zip(inverses, wanted)], axis=1)
    taken = np.stack([np.einsum("ij,jk,ik->i", cross, inverse, cross) for inverse in inverses], axis=1)
    return means, model.kernel.diagonal(new).numpy()[:, None] - taken


EVERY = np.arange(48)
CASES = {
    "one row added": (EVERY[:-1], EVERY, [0, 1, 2, 3], [0, 1, 2, 3]),
    "rows added between others": (np.delete(EVERY, [3, 20]), EVERY, [0, 1, 2, 3], [0, 1, 2, 3]),
    "rows removed": (EVERY, np.delete(EVERY, [0, 11, 30]), [0, 1, 2, 3], [0, 1, 2, 3]),
    "one removed, one added": (EVERY[1:], EVERY[:-1], [0, 1, 2, 3], [0, 1, 2, 3]),
    "a class added": (
        np.flatnonzero(Y != 1),
        np.append(np.flatnonzero(Y != 1), np.flatnonzero(Y == 1)[:2]),
        [0, 2, 3],
        [0, 1, 2, 3],
    ),
    "a class left without rows": (EVERY[Y != 2], EVERY[Y != 2], [0, 1, 3], [0, 1, 2, 3]),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_new_solve_and_an_update_both_give_what_the_formulas_say(case: str, weighted: bool) -> None:
    weights = np.random.RandomState(2).uniform(0.3, 3, size=48) if weighted else None
    rows = change(*CASES[case], weights)
    repurposer = trained(X[CASES[case][0]], Y[CASES[case][0]], None if weights is None else weights[CASES[case][0]])
    targets, model = DirichletTargets.of(repurposer.alpha_eps_), repurposer.target_model_
    means, variances = by_the_formulas(repurposer, rows)
    updated = update_held(model, rows, targets)
    assert updated is not None
    order = np.argsort(rows.codes, kind="stable")
    for found in (refit_held(model, rows, targets, None, np.random.RandomState(0)), updated):
        assert torch.equal(found.points[0], model.rows.transform(rows.matrix[order])[0])
        for given, wanted in zip(found.latent(NEW), (means, variances)):
            np.testing.assert_allclose(given.numpy(), wanted, rtol=0, atol=1e-9)


def test_a_class_that_goes_with_its_last_rows_takes_its_number_along() -> None:
    one_left = np.append(EVERY[Y != 2], EVERY[Y == 2][0])
    rows = change(one_left, EVERY[Y != 2], [0, 1, -1, 2], [0, 1, 3])
    repurposer = trained(X[one_left], Y[one_left])
    updated = update_held(repurposer.target_model_, rows, DirichletTargets.of(repurposer.alpha_eps_))
    assert updated is not None
    assert updated.solve.n_classes == 3
    np.testing.assert_allclose(updated.latent(NEW)[0].numpy(), by_the_formulas(repurposer, rows)[0], rtol=0, atol=1e-9)


def test_many_rows_and_a_solve_that_rounding_has_spoilt_are_for_a_new_solve() -> None:
    repurposer = trained(X[:-1], Y[:-1])
    model, targets = repurposer.target_model_, DirichletTargets.of(repurposer.alpha_eps_)
    assert update_held(model, change(EVERY[:30], EVERY, [0, 1, 2, 3], [0, 1, 2, 3]), targets) is None
    spoilt = replace(model, solve=replace(model.solve, P=model.solve.P * (1 + 1e-6)))
    one_more = change(EVERY[:-1], EVERY, [0, 1, 2, 3], [0, 1, 2, 3])
    assert update_held(model, one_more, targets) is not None
    assert update_held(spoilt, one_more, targets) is None


def test_a_solve_that_an_earlier_version_saved_answers_alike_and_is_made_anew_at_the_first_change() -> None:
    repurposer, earlier = trained(X, Y), trained(X, Y)
    model = earlier.target_model_
    earlier.target_model_ = replace(model, solve=model.solve.with_columns())
    np.testing.assert_allclose(
        earlier.predict_probability(NEW), repurposer.predict_probability(NEW), rtol=0, atol=1e-12
    )
    ours, theirs = (each.find_label_errors()["probability"] for each in (repurposer, earlier))
    np.testing.assert_allclose(np.asarray(theirs), np.asarray(ours), rtol=0, atol=1e-12)
    assert earlier.remove([0]).n_updates_ == 0
    assert earlier.remove([0]).n_updates_ == 1
    repurposer.remove([0, 1])
    np.testing.assert_allclose(earlier.predict_probability(NEW), repurposer.predict_probability(NEW), rtol=0, atol=1e-9)
