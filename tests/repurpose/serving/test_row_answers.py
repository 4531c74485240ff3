"""Answers of one pass are those of the library, whatever rows they are compared with."""

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from repurpose import GpRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.serving.row_answers import RowAnswers, SetOptions
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network, lr, small_network
from tests.repurpose.grouped_rows import grouped_features

X, Y = blobs(60)
NEW = blobs(12, seed=1)[0]


def fine_tuned() -> NeuralNetworkFineTuneRepurposer:
    return NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=1, random_state=0).repurpose((X, Y))


def conformal(repurposer: Any) -> Any:
    return repurposer.conformalize(*blobs(40, seed=3))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: lr().repurpose((X, Y)), SetOptions()),
        (lambda: conformal(lr().repurpose((X, Y))), SetOptions(0.8, "aps", "knn")),
        (lambda: lr().repurpose((X, Y)).calibrate(*blobs(50, seed=4)), SetOptions(0.7, "raps")),
        (lambda: GpRepurposer(identity_network(), ["0"], random_state=0).repurpose((X, Y)), SetOptions(0.8)),
        (lambda: conformal(fine_tuned()), SetOptions(0.8)),
    ],
)
def test_they_are_those_of_the_library(make: Any, options: SetOptions) -> None:
    repurposer = make()
    answers = RowAnswers(repurposer, options)
    assert not answers.cannot
    found = answers.of(answers.read(NEW))
    assert np.array_equal(found.labels, repurposer.predict_label(NEW))
    assert np.array_equal(found.probabilities, repurposer.predict_probability(NEW))
    expected = repurposer.predict_set(NEW, options.coverage, options.score)
    assert np.array_equal(found.sets.members, expected.members)
    assert np.array_equal(found.p_values, repurposer.unfamiliarity_p_value(NEW, answers.method))
    assert answers.method == ("energy" if isinstance(repurposer, NeuralNetworkFineTuneRepurposer) else options.method)


def test_groups_count_as_one_row_here_too() -> None:
    features, groups = grouped_features(n_groups=9)
    repurposer = lr().repurpose(features, groups=groups)
    found = RowAnswers(repurposer, SetOptions(0.8)).of(features)
    assert np.array_equal(found.sets.members, repurposer.predict_set(features, 0.8).members)


def test_what_cannot_be_said_has_a_reason() -> None:
    centroids = RowAnswers(CentroidRepurposer(identity_network(), ["0"]).repurpose((X, Y)), SetOptions())
    assert sorted(centroids.cannot) == ["probability", "set"]
    trained = RowAnswers(fine_tuned(), SetOptions())
    assert sorted(trained.cannot) == ["p_value", "set"]
    found = trained.of(trained.read(NEW))
    assert found.sets is found.p_values is None
    with pytest.raises(NotFittedError):
        RowAnswers(lr(), SetOptions())
    without_sets = RowAnswers(lr().repurpose((X, Y)), SetOptions(None))
    assert without_sets.of(without_sets.read(NEW)).sets is None
    assert not without_sets.cannot
