"""What the benchmark of suggestions makes of its cells, and BADGE beside gradients that are written out."""

import numpy as np
import pytest

from benchmarks.adapters.cells import Cell, Result
from benchmarks.adapters.findings import Findings
from benchmarks.labels.choosing import AUTO, BADGE, RANDOM, TYPICALITY, WAYS
from benchmarks.labels.suggestions import aims, kinds, needed, section
from model_handler import Features

COUNTS = range(10, 101, 10)


def result(kind: str, seed: int, curve: list[float]) -> Result:
    measures = {f"accuracy {n}": value for n, value in zip(COUNTS, curve)}
    measures |= {f"log loss {n}": 1 - value for n, value in zip(COUNTS, curve)}
    return Result(Cell("suggestions, digits", kind, 0.0, seed), {**measures, "seconds": 0.1}, "abc")


# Random rows come to .50 and .54 with 100 labels, on average .52.
FOUND = Findings(
    [result(RANDOM, seed, [level + 0.01 * n for n in range(10)]) for seed, level in enumerate((0.41, 0.45))]
    + [result(AUTO, seed, [level + 0.02 * n for n in range(10)]) for seed, level in enumerate((0.42, 0.46))]
    + [result(TYPICALITY, seed, [0.43] * 10) for seed in range(2)]
)


@pytest.mark.parametrize("measure", ["accuracy", "log loss"])
def test_labels_needed_are_where_the_mean_curve_comes_to_the_level_of_random_rows(measure: str) -> None:
    # .44 + .02 k is .52 at k = 4, which is 50 labels; without either draw likewise.
    found = needed(FOUND, "digits", AUTO, measure)
    assert found is not None
    assert (found.mean, found.error) == (pytest.approx(50), pytest.approx(0, abs=1e-6))
    assert needed(FOUND, "digits", RANDOM, measure).mean == pytest.approx(100)  # type: ignore[union-attr]
    assert needed(FOUND, "digits", TYPICALITY, measure).mean == 110  # type: ignore[union-attr]
    assert needed(FOUND, "mnist", AUTO, measure) is None


def test_aims_are_judged_and_told() -> None:
    verdicts = {aim: verdict for aim, _, verdict in aims(FOUND)}
    of_digits = [verdict for aim, verdict in verdicts.items() if "digits" in aim]
    assert of_digits == ["met", "met", "met", "met"]
    assert {verdict for aim, verdict in verdicts.items() if "digits" not in aim} == {"not measured"}
    told = "\n".join(section(FOUND))
    assert "### digits: a pool of 1,000, 2 draws" in told
    assert "| 50 (0) " in told
    assert len(kinds()) == len(set(kinds()))


def test_badge_draws_by_distances_of_gradients() -> None:
    rng = np.random.default_rng(0)
    pool, probabilities = Features({"a": rng.normal(size=(12, 3))}), rng.dirichlet([1, 1, 1], 12)

    class Head:
        def predict_probability(self, features: Features) -> np.ndarray:
            return probabilities[[np.flatnonzero((pool.matrix == row).all(axis=1))[0] for row in features.matrix]]

    class Told(np.random.RandomState):
        def choice(self, a: object, p: object = None) -> int:  # type: ignore[override]
            asked.append(p)
            return int(np.argmax(p))

    asked: list[object] = []
    labelled = np.array([4, 7])
    chosen = WAYS[BADGE](Head(), pool, labelled, 3, Told(0))  # type: ignore[arg-type]
    rest = np.setdiff1d(np.arange(12), labelled)
    rows = pool.matrix[rest] - pool.matrix[rest].mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    errors = probabilities[rest] - np.eye(3)[probabilities[rest].argmax(axis=1)]
    gradients = np.einsum("rc,rf->rcf", errors, rows).reshape(len(rest), -1)
    assert chosen[0] == rest[np.linalg.norm(gradients, axis=1).argmax()]
    for number, weights in enumerate(asked, start=1):
        before = gradients[np.searchsorted(rest, chosen[:number])]
        squares = ((gradients[:, None] - before) ** 2).sum(axis=2).min(axis=1)
        np.testing.assert_allclose(weights, squares / squares.sum(), atol=1e-5)
        assert chosen[number] == rest[squares.argmax()]
