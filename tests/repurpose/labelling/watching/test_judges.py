import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from repurpose import GpRepurposer, MetaModelRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.domain import CoralRepurposer
from repurpose.labelling.watching.judges import judges_of
from tests.repurpose.labelling.watching.examples import STREAM, X, Y, conformalized, rows, trained, untrained


class _LabelsAlone(MetaModelRepurposer):
    """A head without probabilities."""

    def _train_model_from_features(self, features, labels, feature_indices_per_layer):
        return KNeighborsClassifier(3).fit(features, labels)

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict(features)


def test_rows_of_conformalize_are_judged_by_the_whole_head_and_detector() -> None:
    repurposer, judges = conformalized(), judges_of(conformalized(), "auto")
    known = rows(slice(150, 250))
    assert judges.reference_scores("unfamiliarity") == pytest.approx(repurposer.unfamiliarity(known))
    assert judges.reference_scores("certainty") == pytest.approx(1 - repurposer.predict_probability(known).max(axis=1))
    assert judges.n_reference_errors() == (repurposer.predict_label(known) != Y[150:250]).sum()


def test_rows_of_one_fold_are_judged_by_what_was_trained_without_them() -> None:
    repurposer, judges = trained(), judges_of(trained(), "mahalanobis")
    held_out = repurposer.folds_ == 0
    assert np.array_equal(judges.reference.matrix, X[:150][held_out])
    assert len(judges.reference) == 30
    others = untrained().repurpose(rows(np.flatnonzero(~held_out)))
    assert judges.reference_scores("unfamiliarity") == pytest.approx(
        others.unfamiliarity(rows(np.flatnonzero(held_out)), "mahalanobis")
    )
    probabilities = others.predict_probability(rows(np.flatnonzero(held_out)))
    assert judges.reference_scores("certainty") == pytest.approx(1 - probabilities.max(axis=1), abs=1e-6)
    assert judges.came_from == "a fold"


def test_one_row_of_each_group_serves() -> None:
    groups = np.arange(150) // 3
    repurposer = untrained().repurpose(rows(slice(150)), groups=groups)
    judges = judges_of(repurposer, "auto")
    found = [int(np.flatnonzero((X[:150] == row).all(axis=1))[0]) for row in judges.reference.matrix]
    assert len(set(groups[found])) == len(found) == (repurposer.folds_ == 0).sum() // 3
    assert len({row % 3 for row in found}) > 1  # drawn, and not the first of each
    repurposer.conformalize(rows(slice(200, 300)), groups=np.arange(100) // 10)
    assert repurposer.watch().n_reference == 10


def test_rows_that_nothing_in_a_stream_is_exchangeable_with_are_refused() -> None:
    weighted = untrained().repurpose(rows(slice(150)), sample_weight=np.repeat([1.0, 2.0], 75))
    with pytest.raises(ValueError, match=r"weights that differ.*conformalize"):
        weighted.watch()
    assert weighted.conformalize(rows(slice(150, 250))).watch().n_reference == 100
    adapted = CoralRepurposer(nn.Sequential(nn.Identity()), ["0"], head="lr", random_state=0)
    adapted.repurpose(rows(slice(60)), source_data=rows(slice(60, 150)))
    with pytest.raises(ValueError, match=r"adapted to.*conformalize"):
        adapted.watch()
    watch = adapted.conformalize(rows(slice(150, 250))).watch()
    assert not watch.update(rows(STREAM[:100]))
    assert watch.update(rows(STREAM[:100], offset=8.0))
    watch.update_labelled(rows(STREAM[:10]))


def test_heads_without_probabilities_and_networks_without_rows_have_one_score_with_the_whole_of_alpha() -> None:
    labels_alone = _LabelsAlone(nn.Sequential(nn.Identity()), ["0"]).repurpose(rows(slice(150)))
    watch = labels_alone.watch(alpha=0.05)
    assert watch.watched == ("unfamiliarity",)
    assert watch.report.log10_limit == {"unfamiliarity": pytest.approx(np.log10(20))}
    assert watch.update(rows(STREAM[:60], offset=9.0))
    assert watch.update_labelled(rows(STREAM[:9])).n_labelled == 9

    network = NeuralNetworkFineTuneRepurposer(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), "1", num_epochs=2, random_state=0
    ).repurpose((X[:150], Y[:150]))
    with pytest.raises(ValueError, match="conformalize"):
        network.watch()
    network.conformalize(X[150:250], Y[150:250])
    watch = network.watch()
    assert watch.watched == ("certainty",)
    assert watch.update(X[STREAM[:50]]).n_rows == 50
    watch = network.watch(method="energy")
    assert watch.watched == ("unfamiliarity", "certainty")
    assert watch.update(X[STREAM[:200]] * 20)
    assert watch.update_labelled(X[:5], Y[:5]).n_labelled == 5


def test_classes_of_two_rows_or_groups_are_told_of_where_rows_of_a_fold_are_compared_with() -> None:
    two_of_one = np.r_[np.flatnonzero(Y[:150] != 2), np.flatnonzero(Y[:150] == 2)[:2]]
    repurposer = untrained().repurpose(rows(two_of_one))
    with pytest.warns(UserWarning, match=r"^2 have 2 rows of training or fewer.*conformalize"):
        repurposer.watch()
    groups = np.where(Y[:150] == 1, np.arange(150) % 2, np.arange(150) + 2)
    with pytest.warns(UserWarning, match=r"^1 have 2 groups of training or fewer"):
        untrained().repurpose(rows(slice(150)), groups=groups).watch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repurposer.conformalize(rows(slice(150, 250))).watch()
        trained().watch()


def test_before_training_and_for_unknown_methods_there_is_an_error() -> None:
    with pytest.raises(NotFittedError):
        untrained().watch()
    with pytest.raises(ValueError, match="mahalanobis"):
        trained().watch(method="mahalanobi")
    gp = GpRepurposer(nn.Sequential(nn.Identity()), ["0"], random_state=0).repurpose(rows(slice(30)))
    with pytest.raises(ValueError, match="variance"):
        gp.watch(method="variance")
    with pytest.raises(ValueError, match="none can be held out"):
        untrained().repurpose((X[[0, 1, 2]], [0, 1, 2])).watch()
