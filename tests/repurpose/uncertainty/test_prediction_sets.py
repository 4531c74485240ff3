import numpy as np
import pytest
from scipy.special import softmax

from repurpose.uncertainty.conformal import Comparison, p_values
from repurpose.uncertainty.prediction_sets import SCORES, PredictionSets, nonconformity_of_labels


def task(n_samples: int, rng: np.random.Generator, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are not calibrated at all, and the codes."""
    logits = rng.normal(size=(n_samples, n_classes)) * 1.5
    codes = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n_samples, 1))).sum(axis=1)
    return softmax(3 * logits, axis=1), codes


def by_hand(row: np.ndarray, label: int, score: str) -> float:
    if score == "lac":
        return 1 - row[label]
    likelier = [other for other in range(len(row)) if row[other] > row[label]]
    strangeness = sum(row[other] for other in likelier) + row[label] / 2
    rank = len(likelier) + 1
    return strangeness + (0.01 * max(0, rank - 5) if score == "raps" else 0)


@pytest.mark.parametrize("score", SCORES)
def test_scores_equal_their_definition(score: str) -> None:
    probabilities, _ = task(20, np.random.default_rng(0), n_classes=8)
    expected = [[by_hand(row, label, score) for label in range(8)] for row in probabilities]
    assert np.allclose(nonconformity_of_labels(probabilities, score), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_split_conformal_sets_keep_their_promise_over_200_splits(score: str, coverage: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        (known, codes), (new, truth) = task(99, rng), task(200, rng)
        reference = nonconformity_of_labels(known, score)[np.arange(99), codes]
        members = p_values([Comparison(reference, nonconformity_of_labels(new, score))]) > 1 - coverage + 1e-12
        found.append(members[np.arange(200), truth].mean())
    # between coverage and coverage + 1 / (n + 1), the mean of 200 splits within four of its standard errors
    margin = 4 * np.std(found) / np.sqrt(200)
    assert coverage - margin <= np.mean(found) <= coverage + 0.01 + margin
    assert margin < 0.015


def test_the_sets_are_those_of_the_quantile_of_the_literature() -> None:
    rng = np.random.default_rng(0)
    (known, codes), (new, _) = task(50, rng), task(100, rng)
    reference = nonconformity_of_labels(known, "lac")[np.arange(50), codes]
    threshold = np.sort(reference)[int(np.ceil(51 * 0.9)) - 1]
    members = p_values([Comparison(reference, nonconformity_of_labels(new, "lac"))]) > 0.1 + 1e-12
    assert np.array_equal(members, nonconformity_of_labels(new, "lac") <= threshold)


def test_a_set_reads_as_its_labels_the_most_likely_first() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    members = np.array([[True, True, False], [False, False, False]])
    sets = PredictionSets(members, np.array(["apple", "fig", "pear"]), probabilities, 0.9, "lac")
    assert [labels.tolist() for labels in sets] == [["fig", "apple"], []]
    assert sets[0].tolist() == ["fig", "apple"]
    assert (len(sets), sets.sizes.tolist()) == (2, [2, 0])
    heading = "PredictionSets(2 sets for a coverage of 0.9 by lac; labels: 1 of 0, 1 of 2)"
    assert repr(sets).splitlines()[0] == heading


@pytest.mark.parametrize("rows", [slice(1, None), np.array([False, True, True]), [1, 2], np.array([1, 2])])
def test_several_rows_are_sets_too(rows: object) -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4]])
    members = np.array([[True, True, False], [False, False, False], [True, False, True]])
    names = np.array(["Apple", "Fig", "Pear"])
    sets = PredictionSets(members, np.array(["apple", "fig", "pear"]), probabilities, 0.8, "aps", names)
    some = sets[rows]
    assert [labels.tolist() for labels in some] == [[], ["pear", "apple"]]
    assert (some.coverage, some.score, some.names) == (0.8, "aps", [[], ["Pear", "Apple"]])
    assert sets[np.int64(-1)].tolist() == ["pear", "apple"]
