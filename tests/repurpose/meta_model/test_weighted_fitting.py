"""Which classes take weights, and that rows and weights find each other, whatever the data and the tool around it."""

import inspect
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import has_fit_parameter
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features, ImageFolderData
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    SvmRepurposer,
    load,
)
from repurpose.data.groups import group_codes
from repurpose.meta_model.layer_choice import choose_layers
from tests.repurpose.examples import CentroidRepurposer, KnnRepurposer, blobs, identity_network, lr
from tests.repurpose.grouped_rows import grouped_rows

WEIGH = [LrRepurposer, LaplaceRepurposer, BnnRepurposer, SvmRepurposer, GpRepurposer]
WEIGHTS = np.random.RandomState(0).uniform(0.2, 3, size=60)


class Weighing(KnnRepurposer):
    """A user's head whose hook takes weights, and keeps them."""

    def _train_model_from_features(self, features, labels, feature_indices_per_layer, sample_weight):  # type: ignore
        self.weights_ = sample_weight
        return super()._train_model_from_features(features, labels, feature_indices_per_layer)


class Plain(LrRepurposer):
    """A user's head of today, under one that weighs rows."""

    def _train_model_from_features(self, features, labels, feature_indices_per_layer):  # type: ignore
        return super()._train_model_from_features(features, labels, feature_indices_per_layer)


class OwnFit(LrRepurposer):
    """A user's class with a `repurpose` of its own that knows nothing of weights."""

    def repurpose(self, data, y=None):  # type: ignore
        return super().repurpose(data, y)


def make(cls: Any = LrRepurposer, **options: Any) -> Any:
    options = {"c": 1.0, **options} if issubclass(cls, LrRepurposer) else options
    return cls(identity_network(), ["0"], random_state=0, **options)


@pytest.mark.parametrize("cls", [*WEIGH, Weighing])
def test_classes_whose_hook_takes_weights_have_the_parameter(cls: Any) -> None:
    assert has_fit_parameter(cls(identity_network(), ["0"]), "sample_weight")
    assert list(inspect.signature(cls.fit).parameters) == ["self", "X", "y", "sample_weight", "groups"]
    assert inspect.signature(cls.repurpose).parameters["sample_weight"].default is None
    assert "sample_weight" in inspect.signature(cls.set_fit_request).parameters


@pytest.mark.parametrize(
    "cls",
    [
        *(MetaModelRepurposer, KnnRepurposer, CentroidRepurposer, Plain, OwnFit),
        *(NeuralNetworkFineTuneRepurposer, NeuralNetworkRandomFreezeRepurposer),
    ],
)
def test_all_others_have_none(cls: Any) -> None:
    assert not has_fit_parameter(cls(nn.Sequential(nn.Linear(4, 3)), "0"), "sample_weight")
    assert (
        not hasattr(cls, "set_fit_request") or "sample_weight" not in inspect.signature(cls.set_fit_request).parameters
    )


def test_methods_that_a_class_wrote_itself_stay_and_its_children_keep_them() -> None:
    class Own(LrRepurposer):
        def fit(self, X: Any, y: Any = None) -> Any:
            return self

    class Child(Own):
        pass

    assert Child.fit is Own.fit
    assert "sample_weight" in inspect.signature(Child.repurpose).parameters


def test_the_hook_of_a_user_gets_weights_above_0_or_none() -> None:
    X, y = blobs()
    weights = np.where(np.arange(60) < 10, 0.0, WEIGHTS)
    assert np.array_equal(make(Weighing).fit(X, y, sample_weight=weights).weights_, weights[10:])
    assert make(Weighing).fit(X, y).weights_ is None
    assert make(Weighing).fit(X, y, sample_weight=np.ones(60)).weights_ is None


@pytest.mark.parametrize("cls", WEIGH)
def test_weights_of_1_are_none_and_rows_of_weight_0_were_never_there(cls: Any) -> None:
    X, y = blobs()
    options = {"num_epochs": 5, "num_samples_mc_prediction": 5} if cls is BnnRepurposer else {}
    kept = np.arange(60) % 4 > 0
    X[~kept] = np.nan
    plain = make(cls, **options).fit(X[kept], y[kept])
    masked = make(cls, **options).fit(X, y, sample_weight=kept)
    assert np.array_equal(plain.predict_proba(X[kept]), masked.predict_proba(X[kept]))
    assert not hasattr(masked, "training_weights_")
    assert np.array_equal(masked.training_features_, X[kept])
    weights = WEIGHTS * kept
    weighted = make(cls, **options).fit(X, y, sample_weight=weights)
    alone = make(cls, **options).fit(X[kept], y[kept], sample_weight=weights[kept])
    assert np.array_equal(weighted.predict_proba(X[kept]), alone.predict_proba(X[kept]))
    assert not np.allclose(weighted.predict_proba(X[kept]), plain.predict_proba(X[kept]), atol=1e-3)
    assert np.array_equal(weighted.training_weights_, weights[kept])


def test_weights_follow_the_rows_of_every_kind_of_data(tmp_path: Any) -> None:
    X, y = blobs()
    weights = WEIGHTS * (np.arange(60) % 5 > 0)
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    features = lr().get_features_from_source_model((X, y))
    kinds = [(X, y), (torch.from_numpy(X), torch.from_numpy(y)), (list(X), y.tolist()), pairs]
    kinds += [DataLoader(pairs, batch_size=7), Features(features.values, y)]
    expected = make().fit(X, y, sample_weight=weights).predict_proba(X)
    for data in kinds:
        found = make().repurpose(data, sample_weight=weights).predict_proba(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert np.array_equal(make().fit(features, sample_weight=weights).predict_proba(X), expected)
    for number, pixels in enumerate(np.random.RandomState(0).randint(0, 255, (8, 2, 2, 3), dtype=np.uint8)):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    folder = ImageFolderData(
        tmp_path, transform=lambda image: torch.from_numpy(np.array(image)).float().permute(2, 0, 1)
    )
    in_folder = LrRepurposer(identity_network(), ["0"], c=1.0).repurpose(folder, sample_weight=np.arange(8) % 4)
    assert in_folder.training_weights_.tolist() == [1, 2, 3, 1, 2, 3]
    assert in_folder.training_codes_.tolist() == [0, 0, 0, 1, 1, 1]


def test_layers_are_chosen_with_the_weights() -> None:
    X, y = blobs()
    features = Features({"a": X[:, :2].copy(), "b": X[:, 2:].copy()}, y)
    chosen = LrRepurposer(identity_network(), "auto", c=1.0, random_state=0).fit(features, sample_weight=WEIGHTS)
    expected = choose_layers(features, y, np.random.RandomState(0), WEIGHTS)
    assert chosen.layer_scores_ == expected.scores
    assert chosen.layer_scores_ != choose_layers(features, y, np.random.RandomState(0)).scores


def test_a_loader_with_another_number_of_rows_is_told() -> None:
    X, y = blobs()
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    repurposer = make()
    with pytest.raises(ValueError, match=r"must hold 60 finite numbers .* got 59; give one for each row"):
        repurposer.repurpose(pairs, sample_weight=np.ones(59))
    assert not hasattr(repurposer, "classes_")


def test_what_was_learned_with_weights_is_saved_cloned_and_used_out_of_folds(tmp_path: Any) -> None:
    X, y = blobs()
    trained = make(SvmRepurposer).fit(X, y, sample_weight=WEIGHTS)
    assert not hasattr(clone(trained), "training_weights_")
    assert "sample_weight" not in trained.get_params()
    sets = trained.predict_set(X, 0.8)
    trained.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", identity_network())
    assert np.array_equal(loaded.training_weights_, WEIGHTS)
    assert np.array_equal(loaded.predict_set(X, 0.8).members, sets.members)
    kept = trained.folds_ != 0
    fold = make(SvmRepurposer).fit(X[kept], y[kept], sample_weight=WEIGHTS[kept])
    assert np.array_equal(trained.fold_heads_[0]["target_model_"].weights, fold.target_model_.weights)
    assert not hasattr(trained.fit(X, y), "training_weights_")


def test_scikit_learns_tools_hand_weights_on() -> None:
    X, y = blobs(n_samples=90)
    weights = np.where(y == 0, 1.0, 1e-3)
    voting = VotingClassifier([("ours", make()), ("theirs", LogisticRegression())], voting="soft")
    for tool in (
        CalibratedClassifierCV(make(), cv=2),
        AdaBoostClassifier(make(c=100.0), n_estimators=2, random_state=0),
        voting,
        StackingClassifier([("ours", make()), ("svm", make(SvmRepurposer))], cv=2),
    ):
        fitted = tool.fit(X, y, sample_weight=weights)
        assert (fitted.predict(X) == 0).mean() > 0.85
        assert (clone(tool).fit(X, y).predict(X) == 0).mean() < 0.5
    piped = make_pipeline(FunctionTransformer(), make()).fit(X, y, lrrepurposer__sample_weight=weights)
    assert np.array_equal(piped.predict_proba(X), make().fit(X, y, sample_weight=weights).predict_proba(X))


def test_bags_of_few_examples_may_miss_a_class() -> None:
    X, y = np.eye(6, 4, dtype=np.float32), np.arange(6) // 2
    with pytest.warns(UserWarning, match="not among classes_"):
        bagged = BaggingClassifier(make(), n_estimators=5, random_state=0).fit(X, y)
    assert min(len(member.classes_) for member in bagged.estimators_) == 2
    assert np.allclose(bagged.predict_proba(X).sum(axis=1), 1)


def test_voting_over_a_class_without_weights_says_so() -> None:
    X, y = blobs()
    with pytest.raises(TypeError, match="does not support sample weights"):
        VotingClassifier([("knn", make(KnnRepurposer))]).fit(X, y, sample_weight=WEIGHTS)


def test_metadata_routing_finds_the_weights() -> None:
    X, y = blobs()
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(routed, {"c": [0.1, 1.0]}, cv=2).fit(X, y, sample_weight=WEIGHTS)
        expected = make(c=search.best_params_["c"]).fit(X, y, sample_weight=WEIGHTS)
        assert np.array_equal(search.predict_proba(X), expected.predict_proba(X))
        scores = cross_val_score(routed, X, y, cv=2, params={"sample_weight": WEIGHTS})
        assert not np.array_equal(scores, cross_val_score(make(), X, y, cv=2))
        assert "sample_weight" not in inspect.signature(make(KnnRepurposer).set_fit_request).parameters


def test_groups_of_a_cross_validation_go_to_its_splitter_and_with_routing_into_training_too() -> None:
    X, y, groups = grouped_rows(n_groups=8, per_group=4)
    plain = cross_validate(make(), X, y, groups=groups, cv=GroupKFold(4), return_estimator=True)
    assert not any(hasattr(each, "training_groups_") for each in plain["estimator"])
    with sklearn.config_context(enable_metadata_routing=True):
        options = {"params": {"groups": groups}, "cv": GroupKFold(4), "return_estimator": True}
        for routed in (make(), make().set_fit_request(groups=True), make(KnnRepurposer)):
            inside = cross_validate(routed, X, y, **options)["estimator"]
            assert all(len(set(each.training_groups_)) == 6 for each in inside)
        refused = cross_validate(make().set_fit_request(groups=False), X, y, **options)["estimator"]
        assert not any(hasattr(each, "training_groups_") for each in refused)


def test_a_method_that_a_class_wrote_itself_needs_no_groups() -> None:
    X, y = blobs()
    assert OwnFit(identity_network(), ["0"], c=1.0).fit(X, y).score(X, y) > 0.8
    with pytest.raises(TypeError, match="groups"):
        OwnFit(identity_network(), ["0"], c=1.0).fit(X, y, groups=np.arange(60) // 2)


@pytest.mark.parametrize("kind", ["arrays", "features", "loader", "dataset", "folder labels apart"])
def test_groups_go_by_the_order_of_the_rows_whatever_the_data_are(kind: str) -> None:
    X, y, groups = grouped_rows(n_groups=8, per_group=4)
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    data: dict[str, Any] = {
        "arrays": (X, y),
        "features": Features({"0": X}, y),
        "loader": DataLoader(dataset, batch_size=5),
        "dataset": dataset,
        "folder labels apart": list(X),
    }
    labels = y if kind == "folder labels apart" else None
    found = make().repurpose(data[kind], labels, groups=groups)
    assert np.array_equal(found.training_groups_, group_codes(groups))
    for wrong in (groups[:-1], np.append(groups, 0)):
        with pytest.raises(ValueError, match=f"the data have 32 rows and groups has {len(wrong)}"):
            make().repurpose(data[kind], labels, groups=wrong)


def test_rows_of_weight_zero_are_left_out_with_their_groups() -> None:
    X, y, groups = grouped_rows(n_groups=8, per_group=4)
    weights = np.arange(32) % 3 / 2.0
    for data in ((X, y), Features({"0": X}, y), TensorDataset(torch.from_numpy(X), torch.from_numpy(y))):
        found = make(c="auto").repurpose(data, sample_weight=weights, groups=groups)
        kept = weights > 0
        alone = make(c="auto").repurpose((X[kept], y[kept]), sample_weight=weights[kept], groups=groups[kept])
        assert found.c_scores_ == alone.c_scores_
        assert len(set(zip(found.training_groups_, groups[kept]))) == 8


def test_a_hook_that_holds_rows_out_gets_the_groups() -> None:
    class Holding(KnnRepurposer):
        def _train_model_from_features(self, features, labels, feature_indices_per_layer, groups):  # type: ignore
            self.seen_ = None if groups is None else groups.tolist()
            return super()._train_model_from_features(features, labels, feature_indices_per_layer)

    X, y, groups = grouped_rows(n_groups=8, per_group=4)
    assert make(Holding).repurpose(X, y, groups=groups).seen_ == group_codes(groups).tolist()
    assert make(Holding).repurpose(X, y).seen_ is None


def test_groups_that_cannot_be_used_leave_what_was_learned() -> None:
    X, y, groups = grouped_rows(n_groups=8, per_group=4)
    found = make().repurpose(X, y, groups=groups)
    for wrong, message in (([None, *groups[1:]], "1 of 32 rows have no group"), (groups[1:], "groups has 31")):
        with pytest.raises(ValueError, match=message):
            found.repurpose(X, y, groups=wrong)
    assert np.array_equal(found.training_groups_, group_codes(groups))
    assert not hasattr(found.repurpose(X, y), "training_groups_")
