from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose import CorruptFileError, GpRepurposer, Repurposer, domain, load
from repurpose.domain import CoralRepurposer, DomainRepurposer
from repurpose.domain.domains import Domains
from repurpose.persistence import registry
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.domain.examples import MethodContract, quick, two_domains
from tests.repurpose.examples import (
    CentroidRepurposer,
    KnnRepurposer,
    blobs,
    identity_network,
    lr,
    small_network,
)
from tests.repurpose.saved_files import edit


class CoralWithSource(CoralRepurposer):
    """Brings source data along, so that it learns as any Repurposer does."""

    def repurpose(self, data: object, y: object = None) -> Any:  # type: ignore[override]
        X, codes = blobs(seed=5)
        labels = y if y is not None else data.labels if isinstance(data, Features) else data[1] if isinstance(data, tuple) else codes  # type: ignore[index] # fmt: skip # noqa: E501
        is_text = np.asarray(labels).dtype.kind in "UO"
        return super().repurpose(
            data, y, source_data=(X, np.array(["pear", "apple", "fig"])[codes] if is_text else codes)
        )

    def fit(self, X: object, y: object = None) -> Any:  # type: ignore[override]
        return self.repurpose(X, y)


class MovingRepurposer(DomainRepurposer):
    """A method of a user's own: both domains are moved to mean 0, and the first column is left out."""

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        self.target_mean_ = domains.target.mean(axis=0)
        return (domains.source - domains.source.mean(axis=0))[:, 1:], domains.source_weights

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        return (matrix - self.target_mean_)[:, 1:]


class TestUsersMethod(MethodContract):
    make = MovingRepurposer


class TestRepurposerContract(RepurposerContract):
    grid = {"head__c": [0.5, 1.0]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> CoralWithSource:
        return CoralWithSource(source_model, ["2"], head=lr(), **options)

    def test_a_clone_shares_the_network_and_no_parameter_is_lost(self) -> None:
        repurposer = self.make(small_network(), pooling="max", regularization=0.5, random_state=3)
        cloned = clone(repurposer.repurpose(*blobs()))
        assert not hasattr(cloned, "classes_")
        own, copied = (each.get_params() for each in (repurposer, cloned))
        assert type(copied.pop("head")) is type(own.pop("head"))
        assert copied == own


class TestMethod(MethodContract):
    make = DomainRepurposer


def plain(**options: Any) -> DomainRepurposer:
    return quick(DomainRepurposer, **options)


def test_without_labels_of_the_target_the_head_is_that_of_the_source() -> None:
    source, (X, _) = two_domains()
    by_hand = lr(random_state=0).repurpose(source)
    found = plain().repurpose(X, source_data=source)
    assert np.array_equal(found.predict_probability(X), by_hand.predict_probability(X))


@pytest.mark.parametrize("head", ["gp", "svm", "laplace"])
def test_uncertainty_is_as_its_head_has_it(head: str, tmp_path: Any) -> None:
    source, (X, y) = two_domains()
    repurposer = plain(head=head).repurpose(X[20:], y[20:], source_data=source)
    known = repurposer.target_model_
    assert repurposer._defines("_predict_variance_from_features") == known._defines("_predict_variance_from_features")
    uncertainty = repurposer.predict_uncertainty(X[:20], n_draws=5)
    assert (uncertainty.epistemic is None) == (head == "svm")
    assert uncertainty.unfamiliarity is not None
    evaluation = repurposer.evaluate(X[:20], y=y[:20], n_bootstrap=3)
    assert evaluation.accuracy == repurposer.score(X[:20], y[:20])
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert np.array_equal(loaded.predict_set(X, 0.8).members, repurposer.predict_set(X, 0.8).members)


def test_a_head_object_of_ours_and_one_of_a_user_are_saved_with_their_parameters(tmp_path: Any) -> None:
    source, (X, _) = two_domains()
    for head in (GpRepurposer(identity_network(), ["9"]), KnnRepurposer(identity_network(), ["9"], n_neighbors=3)):
        repurposer = plain(head=head).repurpose(X, source_data=source)
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=identity_network())
        assert type(loaded.head) is type(head)
        assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_a_head_without_probabilities_says_so() -> None:
    source, (X, _) = two_domains()
    repurposer = plain(head=CentroidRepurposer(identity_network(), ["0"])).repurpose(X, source_data=source)
    assert repurposer.predict_label(X).shape == (40,)
    assert not hasattr(repurposer, "predict_proba")
    with pytest.raises(NotImplementedError, match="no probabilities"):
        repurposer.predict_set(X)


def test_every_kind_of_data_is_a_domain() -> None:
    source, (X, _) = two_domains()
    sets = TensorDataset(*map(torch.from_numpy, source))
    kinds = [source, sets, DataLoader(sets, batch_size=7), Features({"0": source[0]}, source[1]), {"a": sets}]
    targets = [X, (X, None), torch.from_numpy(X), Features({"0": X}), [*X], DataLoader(torch.from_numpy(X))]
    expected = plain().repurpose(X, source_data=source).predict_probability(X)
    for kind in kinds:
        assert np.array_equal(plain().repurpose(X, source_data=kind).predict_probability(X), expected)
    for target in targets:
        found = plain().repurpose(target, source_data=source)
        assert np.array_equal(found.predict_probability(X), expected)


def test_the_same_labels_are_found_in_arrays_and_in_loaders() -> None:
    source, (X, y) = two_domains()
    marked = y.astype(float)
    marked[5:] = np.nan
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(marked)), batch_size=7)
    kinds = [(X, marked), loader, Features({"0": X}, marked), (X, [*y[:5].tolist(), *[None] * 35])]
    for data in kinds:
        repurposer = plain().repurpose(data, source_data=source)
        assert repurposer.n_target_labels_ == 5
        rows = repurposer.training_domains_ == -1
        assert np.array_equal(repurposer.training_features_[rows], X[:5])
        assert repurposer.classes_[repurposer.training_codes_[rows]].tolist() == y[:5].tolist()
        assert repurposer.classes_.dtype == y.dtype


def test_answers_are_given_to_the_data_that_were_learned_from_whatever_labels_are_missing() -> None:
    source, (X, y) = two_domains()
    data = (X, [*y[:5].tolist(), *[None] * 35])
    repurposer = plain().repurpose(data, source_data=source)
    assert np.array_equal(repurposer.predict_label(data), repurposer.predict_label(X))
    assert repurposer.score_without_labels(data, source) == repurposer.score_without_labels(X, source)
    with pytest.raises(ValueError, match=r"NoneType|missing"):
        repurposer.score(data)


def test_a_folder_without_classes_is_a_target_without_labels(tmp_path: Any) -> None:
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.full((4, 4, 3), 40 * number, np.uint8)).save(tmp_path / f"{number}.png")

    def as_rows(image: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, np.float32)[0, :2].ravel())

    source = (np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32), np.arange(8) % 2)
    repurposer = plain(transform=as_rows).repurpose(str(tmp_path), source_data=source)
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (3, 0)
    assert repurposer.predict_label(str(tmp_path)).shape == (3,)


def test_a_search_splits_the_target_and_keeps_the_source_whole() -> None:
    source, (X, y) = two_domains()
    assert len(source[0]) == len(X)  # where scikit-learn would cut it
    features = Features({"0": source[0]}, source[1])
    for given in (source, {"source": features}):
        search = GridSearchCV(plain(), {"head__c": [0.1, 1.0]}, cv=2, error_score="raise")
        search.fit(X, y, source_data=given)
        assert search.best_estimator_.source_domains_ == {"source": 40}
        scores = cross_val_score(plain(), X, y, cv=2, params={"source_data": given})
        by_hand = [
            plain().repurpose(X[train], y[train], source_data=source).score(X[test], y[test])
            for train, test in StratifiedKFold(2).split(X, y)
        ]
        assert scores.tolist() == by_hand
    with pytest.raises(ValueError, match=r"20 rows that scikit-learn took.*cut with it"):
        cross_val_score(plain(), X, y, cv=2, params={"source_data": features}, error_score="raise")


def test_classes_have_the_names_of_the_source_where_the_target_has_none() -> None:
    (Xs, ys), (X, _) = two_domains()
    repurposer = plain().repurpose(X, source_data={"a": Features({"0": Xs}, ys, ["apple", "fig", "pear"])})
    assert repurposer.class_names_.tolist() == ["apple", "fig", "pear"]


def test_warnings_point_at_the_line_that_asked_for_training() -> None:
    source, (X, y) = two_domains()
    with pytest.warns(UserWarning, match="source rows are left out") as told:
        plain().fit(X, np.minimum(y, 1), source_data=source)
    assert [warning.filename for warning in told] == [__file__]


def test_labels_that_are_missing_in_the_source_name_the_domain() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match="source_data 'b': 1 of 40 labels are missing"):
        plain().repurpose(X, source_data={"a": source, "b": (source[0], [None, *source[1][1:]])})


def test_tables_whose_columns_stand_in_another_order_are_refused() -> None:
    (X_source, y), (X, _) = two_domains()
    target, source = pd.DataFrame(X, columns=list("abcd")), pd.DataFrame(X_source, columns=list("abcd"))
    turned = source[list("dcba")]
    with pytest.raises(ValueError, match="columns of source_data 'b' are d, c, b, a, those of the target a, b, c, d"):
        plain().repurpose(target, source_data={"a": (source, y), "b": (turned, y)})
    repurposer = plain().repurpose(target, source_data=(source, y))
    with pytest.raises(ValueError, match="another order: column 0 is 'd'"):
        repurposer.score_without_labels(target, (turned, y))


def test_a_file_may_ask_for_every_class_of_this_folder_unimported() -> None:
    classes = [getattr(domain, name) for name in domain.__all__]
    modules = {cls.__module__ for cls in classes if issubclass(cls, Repurposer)}
    assert modules <= registry._OURS_APART


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda content: content["parameters"].update(head="gp"), "makes no head of what was saved"),
        (lambda content: content["parameters"]["head"]["items"].update({"class": "os:system"}), "'os:system'"),
        (lambda content: content["fitted"]["adapted_widths_"]["items"].update(more=3), "training_features_ is"),
        (lambda content: content["fitted"].pop("source_domains_"), "source_domains_ is missing"),
    ],
)
def test_a_forged_file_is_refused(forge: Any, message: str, tmp_path: Any) -> None:
    source, (X, _) = two_domains()
    quick(CoralRepurposer).repurpose(X, source_data=source).save_repurposer(tmp_path / "saved")
    edit(tmp_path / "saved", forge)
    with pytest.raises(CorruptFileError, match=message):
        load(tmp_path / "saved", source_model=identity_network())


def test_a_failed_second_training_leaves_the_first_working() -> None:
    source, (X, _) = two_domains()
    repurposer = plain().repurpose(X, source_data=source)
    before = dict(vars(repurposer))
    bad = [None, (source[0], source[1] + 0.5), (source[0][:, :2], source[1]), (np.full_like(X, np.nan), source[1])]
    for given in bad:
        with pytest.raises(ValueError, match=r"needs source_data|continuous|other features|NaN in 40 of 40 rows"):
            repurposer.repurpose(X, source_data=given)
    assert vars(repurposer) == before


def test_parameters_that_cannot_be_are_listed_together() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=r'head must be one of.*\n.*feature_layer_names="auto" chooses'):
        DomainRepurposer(identity_network(), "auto", head="lrr").repurpose(X, source_data=source)
    with pytest.raises(ValueError, match="of one domain"):
        plain(head=plain()).repurpose(X, source_data=source)
    several, knn = {"a": source, "b": (source[0][:9], source[1][:9])}, KnnRepurposer(identity_network(), ["0"])
    with pytest.raises(ValueError, match="KnnRepurposer cannot weigh rows"):
        plain(head=knn).repurpose(X, source_data=several)
    with pytest.raises(TypeError, match="sample_weight"):
        plain().repurpose(X, source_data=source, sample_weight=np.ones(40))  # type: ignore[call-arg]


def test_calibration_uses_labelled_rows_of_the_target_else_of_the_source_and_the_log_says_which(caplog: Any) -> None:
    source, (X, y) = two_domains()
    for labels, rows in (([*y[:10], *[None] * 30], "10 labelled rows of the target"), (None, "rows of the source")):
        repurposer = plain().repurpose(X, labels, source_data=source)
        with caplog.at_level("INFO", "repurpose"):
            repurposer.calibrate()
        assert f"judges by {rows}" in caplog.text


def test_rows_given_to_conformalize_make_sets_possible() -> None:
    source, (X, y) = two_domains()
    repurposer = plain().repurpose(X[:20], source_data=source).conformalize(X[20:], y[20:])
    assert len(repurposer.predict_set(X[:20], 0.8)) == 20


def test_constant_columns_do_no_harm() -> None:
    (Xs, ys), (X, _) = two_domains()
    Xs[:, 1], X[:, 2] = 3.0, 0.0
    repurposer = quick(CoralRepurposer).repurpose(X, source_data=(Xs, ys))
    assert np.isfinite(repurposer.predict_probability(X)).all()


def test_features_of_a_network_are_adapted_as_rows_of_them() -> None:
    source, (X, _) = two_domains()
    repurposer = CoralRepurposer(small_network(), ["0", "2"], head=lr())
    features = [repurposer.get_features_from_source_model(data) for data in (source, X)]
    found = repurposer.repurpose(X, source_data=source).predict_probability(X)
    assert repurposer.n_features_per_layer_ == {"0": 6, "2": 5}
    assert repurposer.adapted_widths_ == {"0 + 2": 11}
    again = repurposer.repurpose(features[1], source_data=features[0])
    assert np.array_equal(again.predict_probability(features[1]), found)


def test_rows_of_the_target_are_held_out_by_groups_and_those_of_the_source_one_by_one(tmp_path: Any) -> None:
    (Xs, ys), (X, y) = two_domains()
    groups, labels = np.arange(40) % 8, [None if row % 5 == 0 else int(label) for row, label in enumerate(y)]
    found = plain(head=lr(c="auto")).repurpose(X, labels, source_data=(Xs, ys), groups=groups)
    labelled = np.flatnonzero(np.arange(40) % 5)
    assert np.array_equal(found.training_groups_[40:], groups[labelled])
    assert len(np.unique(found.training_groups_)) == 48
    assert not hasattr(found.target_model_, "training_groups_")
    features = Features({"0": found.training_features_}, found.classes_[found.training_codes_])
    by_hand = lr(c="auto", random_state=0).repurpose(features, groups=found.training_groups_)
    assert found.target_model_.c_scores_ == by_hand.c_scores_
    for fold in found.heads_of_folds():
        kept = np.setdiff1d(np.arange(72), fold.held_out)
        assert not set(found.training_groups_[fold.held_out]) & set(found.training_groups_[kept][kept >= 40])
    found.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.training_groups_, found.training_groups_)
    assert np.array_equal(loaded.predict_set(X).members, found.predict_set(X).members)
    with pytest.raises(ValueError, match="the data have 40 rows and groups has 3"):
        plain().repurpose(X, source_data=(Xs, ys), groups=[1, 2, 3])
