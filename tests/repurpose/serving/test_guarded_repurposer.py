"""A guard answers as the repurposer does where it may, and nothing where it may not; limits are judged at `guard`."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch.utils.data import DataLoader, TensorDataset

from repurpose import InputSchema, LrRepurposer, MetaModelRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.serving import RefusedRowsError
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network, lr, small_network

X, Y = blobs(120)
NAMES = np.array(["pear", "apple", "fig"])[Y]
NEW = blobs(40, seed=1)[0]


def fine_tuned() -> NeuralNetworkFineTuneRepurposer:
    return NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=1, random_state=0).repurpose((X, NAMES))


@pytest.fixture(scope="module")
def repurposer() -> LrRepurposer:
    return lr().repurpose((X, NAMES))


@pytest.mark.parametrize("make", [lambda: lr().repurpose((X, NAMES)), fine_tuned])
def test_what_is_accepted_is_answered_as_without_a_guard(make: Any) -> None:
    repurposer = make()
    answer = repurposer.guard().predict(NEW)
    assert answer.accepted.all()
    assert answer.labels.tolist() == repurposer.predict_label(NEW).tolist()
    assert np.array_equal(answer.probabilities, repurposer.predict_probability(NEW))
    assert answer.unfamiliarity is None
    assert set(answer.reasons) == {None}


def test_labels_below_the_confidence_are_refused(repurposer: LrRepurposer) -> None:
    largest = repurposer.predict_probability(NEW).max(axis=1)
    limit = float(np.median(largest))
    answer = repurposer.guard(min_confidence=limit).predict(NEW)
    assert np.array_equal(answer.accepted, largest >= limit)
    assert 0 < answer.accepted.sum() < len(NEW)
    assert set(answer.reasons[~answer.accepted]) == {"uncertain"}
    assert [label is None for label in answer.labels] == (~answer.accepted).tolist()
    row = np.flatnonzero(~answer.accepted)[0]
    label = repurposer.predict_label(NEW)[row]
    assert answer.details[row] == f"a probability of {largest[row]:.4g} for {str(label)!r}, below {limit:g}"


def test_the_confidence_is_that_of_the_predicted_label_and_calibrated() -> None:
    class Contrary(LrRepurposer):
        """Predicts the least likely class, as no sensible head does, though some differ from their probabilities."""

        def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
            return self.head_probabilities(features).argmin(axis=1)

    contrary = Contrary(identity_network(), ["0"], c=1.0).repurpose((X, Y))
    least = contrary.predict_probability(NEW).min(axis=1)
    answer = contrary.guard(min_confidence=float(np.median(least))).predict(NEW)
    assert np.array_equal(answer.accepted, least >= np.median(least))
    calibrated = lr().repurpose((X, Y)).calibrate(*blobs(60, seed=3))
    sure = calibrated.predict_probability(NEW).max(axis=1)
    assert np.array_equal(calibrated.guard(min_confidence=0.7).predict(NEW).accepted, sure >= 0.7)
    assert not np.array_equal(sure, lr().repurpose((X, Y)).predict_probability(NEW).max(axis=1))


def test_rows_stranger_than_the_share_of_familiar_ones_are_refused(repurposer: LrRepurposer) -> None:
    rows = np.concatenate([NEW, 100 * np.ones((1, 4), dtype=np.float32)])
    p_values = repurposer.unfamiliarity_p_value(rows)
    answer = repurposer.guard(max_unfamiliarity=0.95).predict(rows)
    assert np.array_equal(answer.accepted, p_values > 0.05)
    assert np.array_equal(answer.unfamiliarity, 1 - p_values)
    assert answer.reasons[-1] == "unfamiliar"
    assert answer.details[-1] == "stranger than 0.9917 of familiar rows, where 0.95 is the limit"  # 120 / 121
    assert np.isfinite(answer.probabilities[-1]).all()  # which tell what it was taken for


def test_of_fresh_familiar_rows_no_more_are_refused_than_the_limit_says() -> None:
    """With rows given to `conformalize`, the share refused is 1 - the limit on average: here of 20 draws of 200."""
    refused = []
    for seed in range(20):
        rows, labels = blobs(360, seed=0)
        order = np.random.default_rng(seed).permutation(360)
        rows, labels = rows[order], labels[order]
        repurposer = lr().repurpose((rows[:60], labels[:60])).conformalize(rows[60:160], labels[60:160])
        refused.append(1 - repurposer.guard(max_unfamiliarity=0.9).predict(rows[160:]).accepted.mean())
    error = np.std(refused) / np.sqrt(20)
    assert abs(np.mean(refused) - 10 / 101) < 3 * error + 0.01


def test_a_network_is_guarded_by_the_energy_of_rows_given_to_conformalize() -> None:
    network = fine_tuned()
    with pytest.raises(ValueError, match="keeps none of them"):
        network.guard(max_unfamiliarity=0.9)
    network.conformalize(X[:50], NAMES[:50])
    answer = network.guard(max_unfamiliarity=0.9, method="energy").predict(NEW)
    assert np.array_equal(answer.accepted, network.unfamiliarity_p_value(NEW, "energy") > 0.1)


def test_the_schema_is_that_of_training_unless_one_is_given(repurposer: LrRepurposer) -> None:
    wide = np.ones((2, 5))
    assert repurposer.guard().schema == InputSchema((4,))
    assert repurposer.guard().predict(wide).reasons.tolist() == ["shape", "shape"]
    assert fine_tuned().guard().schema == InputSchema((4,), "float32")
    assert fine_tuned().guard().predict(np.ones((1, 4), dtype=np.int64)).reasons.tolist() == ["dtype"]
    of_features = lr().repurpose(repurposer.get_features_from_source_model((X, NAMES)))
    assert of_features.guard().schema is None
    limits = InputSchema.of(X)
    beyond = np.array([X[0], X[X.argmax() // 4] + 1])
    assert repurposer.guard(schema=limits).predict(X).accepted.all()
    assert repurposer.guard(schema=limits).predict(beyond).reasons.tolist() == [None, "range"]


def test_a_loader_is_judged_batch_by_batch(repurposer: LrRepurposer) -> None:
    rows = NEW.copy()
    rows[[3, 20]] = np.nan
    loader = DataLoader(TensorDataset(torch.from_numpy(rows), torch.zeros(40)), batch_size=7)
    answer, whole = repurposer.guard().predict(loader), repurposer.predict_label(NEW)
    assert np.flatnonzero(~answer.accepted).tolist() == [3, 20]
    assert answer.labels[answer.accepted].tolist() == np.delete(whole, [3, 20]).tolist()
    assert np.isnan(answer.probabilities[[3, 20]]).all()


def test_a_head_without_probabilities_is_guarded_without_them() -> None:
    centroids = CentroidRepurposer(identity_network(), ["0"]).repurpose((X, NAMES))
    answer = centroids.guard(max_unfamiliarity=0.9).predict(NEW)
    assert answer.probabilities is None
    assert 0 < answer.accepted.sum() < len(NEW)
    assert answer.labels[answer.accepted].tolist() == centroids.predict_label(NEW)[answer.accepted].tolist()
    with pytest.raises(NotImplementedError, match="CentroidRepurposer has no probabilities: it must define"):
        centroids.guard(min_confidence=0.5)
    with pytest.raises(NotImplementedError, match="CentroidRepurposer has no latent variance"):
        centroids.guard(max_unfamiliarity=0.5, method="variance")


def test_raising_names_rows_and_reasons_and_has_the_answer_to_the_others(repurposer: LrRepurposer) -> None:
    guarded = repurposer.guard()
    assert guarded.predict_or_raise(NEW).labels.tolist() == repurposer.predict_label(NEW).tolist()
    said = (
        r"2 of 3 rows are refused: row 1 \(not finite\): NaN or infinite values; row 2 \(shape\): a row of shape \(3,\)"
    )
    with pytest.raises(RefusedRowsError, match=said) as caught:
        guarded.predict_or_raise([NEW[0], [np.nan] * 4, [1.0] * 3])
    assert caught.value.prediction.labels.tolist() == [*repurposer.predict_label(NEW[:1]), None, None]
    with pytest.raises(RefusedRowsError, match=r"7 of 7 rows are refused: row 0 .*; \.\.\.$"):
        guarded.predict_or_raise([[np.nan] * 4] * 7)
    counts = guarded.counts
    assert (counts.seen, counts.accepted, counts.refused["not finite"], counts.refused["shape"]) == (50, 41, 8, 1)


def test_threads_share_one_guard(repurposer: LrRepurposer) -> None:
    guarded = repurposer.guard(min_confidence=0.5, max_unfamiliarity=0.95)
    rows = NEW.copy()
    rows[5] = np.nan
    expected = guarded.predict(rows)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(guarded.predict, [rows] * 20))
    for answer in answers:
        assert answer.labels.tolist() == expected.labels.tolist()
        assert np.array_equal(answer.probabilities, expected.probabilities, equal_nan=True)
    assert guarded.counts.seen == 21 * 40
    assert guarded.counts.refused["not finite"] == 21


def test_a_copy_for_another_process_has_the_limits_and_counts_anew(repurposer: LrRepurposer) -> None:
    schema = InputSchema(low=-20.0, high=20.0)
    guarded = repurposer.guard(0.5, 0.9, schema, method="mahalanobis")
    answer = guarded.predict(NEW)
    for copied in (pickle.loads(pickle.dumps(guarded)), deepcopy(guarded)):
        assert copied.counts.seen == 0
        assert (copied.min_confidence, copied.max_unfamiliarity, copied.schema) == (0.5, 0.9, schema)
        assert copied.predict(NEW).reasons.tolist() == answer.reasons.tolist()
    assert {"unfamiliar", "uncertain"} <= set(answer.reasons)


def test_limits_are_fixed_and_a_repurposer_that_was_trained_again_is_refused() -> None:
    repurposer = lr().repurpose((X, Y))
    guarded = repurposer.guard(min_confidence=0.5)
    with pytest.raises(FrozenInstanceError):
        guarded.min_confidence = 0.0  # type: ignore[misc]
    repurposer.repurpose((X, NAMES))
    with pytest.raises(ValueError, match=r"trained again since guard\(\) was called: call guard\(\) again"):
        guarded.predict(NEW)
    assert guarded.counts.seen == 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"min_confidence": 80}, ValueError, "min_confidence must be a number from 0 to 1, got 80; for 80 % write 0.8"),
        ({"min_confidence": "high"}, ValueError, "min_confidence must be a number from 0 to 1, got 'high'"),
        ({"max_unfamiliarity": -0.1}, ValueError, "max_unfamiliarity must be a number from 0 to 1, got -0.1"),
        ({"max_unfamiliarity": 1.0}, ValueError, "max_unfamiliarity=1 would refuse nothing"),
        ({"max_unfamiliarity": 0.9, "method": "mahalanobi"}, ValueError, "nearest: .*'mahalanobis'"),
        (
            {"schema": (4,)},
            TypeError,
            r"schema is an InputSchema, or of several parts a tuple or a dict of them, got \(4,",
        ),
        ({"schema": {}}, TypeError, "schema is an InputSchema"),
    ],
)
def test_limits_that_are_none_are_refused_at_once(
    repurposer: LrRepurposer, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        repurposer.guard(**options)


def test_there_is_no_guard_before_training() -> None:
    for unfitted in (lr(), MetaModelRepurposer(identity_network(), ["0"])):
        with pytest.raises(NotFittedError):
            unfitted.guard()
