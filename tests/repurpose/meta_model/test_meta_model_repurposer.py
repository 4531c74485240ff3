import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from model_handler import CorruptFileError, Features, UnknownLayerError
from repurpose import GpRepurposer, LrRepurposer, MetaModelRepurposer, load
from repurpose.meta_model import meta_model_repurposer
from repurpose.meta_model.layer_choice import LayerChoice
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import (
    CentroidRepurposer,
    KnnRepurposer,
    blob_features,
    blobs,
    identity_network,
    lr,
    small_network,
)


class TestKnnRepurposer(RepurposerContract):
    grid = {"n_neighbors": [1, 3], "pooling": ["auto", "max"]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> KnnRepurposer:
        return KnnRepurposer(source_model, ["2"], **options)


class TestCentroidRepurposer(RepurposerContract):
    grid = {"batch_size": [4, 8]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> CentroidRepurposer:
        return CentroidRepurposer(source_model, ["2"], **options)


class Recorder(MetaModelRepurposer):
    """Keeps what its hooks are given, and returns what it is told to."""

    def __init__(self, source_model: Any, feature_layer_names: Any, returns: Any = None, **kwargs: Any) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.returns = returns

    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> Any:
        return features, labels, feature_indices_per_layer

    def _predict_probability_from_features(self, features: Any) -> Any:
        return self.returns


def test_hooks_get_raw_float32_rows_codes_and_the_columns_of_each_layer() -> None:
    X, y = blobs()
    network = small_network()
    repurposer = Recorder(network, ["2", "0"]).repurpose(X, np.array(["pear", "apple", "fig"])[y])
    features, labels, columns = repurposer.target_model_
    with torch.no_grad():
        first = network[0](torch.from_numpy(X))
        second = network[2](network[1](first))
    assert features.dtype == np.float32
    assert np.allclose(features, np.hstack([second, first]), rtol=0, atol=1e-6)
    assert labels.tolist() == np.array([2, 0, 1])[y].tolist()
    assert {name: indices.tolist() for name, indices in columns.items()} == {
        "2": [0, 1, 2, 3, 4],
        "0": [5, 6, 7, 8, 9, 10],
    }
    assert repurposer.feature_layer_names_ == ["2", "0"]
    assert repurposer.n_features_per_layer_ == {"2": 5, "0": 6}
    assert repurposer.n_features_in_ == 11


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((60, 2)), r"an array of shape \(n_samples, n_classes\) = \(60, 3\), got shape \(60, 2\)"),
        (np.full((60, 3), np.nan), "finite numbers; 60 of 60 rows"),
        (np.ones((60, 3)), "rows that sum to 1"),
        (np.tile([2.0, -1.0, 0.0], (60, 1)), "no negative numbers"),
        (None, r"got shape \(\)"),
    ],
)
def test_what_the_probability_hook_returns_is_checked_naming_the_hook(returned: Any, message: str) -> None:
    repurposer = Recorder(identity_network(), ["0"], returns=returned).repurpose(blob_features())
    with pytest.raises(ValueError, match=r"Recorder\._predict_probability_from_features must return .*" + message):
        repurposer.predict_probability(blob_features())


def test_what_the_label_hook_returns_is_checked_naming_the_hook() -> None:
    class Labels(Recorder):
        def _predict_label_from_features(self, features: Any) -> Any:
            return self.returns

    repurposer = Labels(identity_network(), ["0"]).repurpose(blob_features())
    for wrong in (np.full(60, 3), np.full(60, 0.5), np.zeros(59, int), np.full(60, "a"), np.full(60, -1)):
        repurposer.set_params(returns=wrong)
        with pytest.raises(
            ValueError, match=r"Labels\._predict_label_from_features must return one code a row, from 0 to 2"
        ):
            repurposer.predict_label(blob_features())
    repurposer.set_params(returns=np.full(60, 2.0))
    assert repurposer.predict_label(blob_features()).tolist() == [2] * 60


def test_without_a_probability_hook_labels_work_and_probabilities_say_what_is_missing() -> None:
    features = blob_features()
    repurposer = CentroidRepurposer(identity_network(), ["0"]).repurpose(features)
    assert repurposer.score(features) > 0.5
    assert not hasattr(repurposer, "predict_proba")
    with pytest.raises(NotImplementedError, match="CentroidRepurposer must define _predict_probability_from_features"):
        repurposer.predict_probability(features)


def test_without_hooks_repurpose_names_them() -> None:
    class Nothing(MetaModelRepurposer):
        pass

    class OnlyTraining(MetaModelRepurposer):
        def _train_model_from_features(self, *args: Any) -> None:
            return None

    with pytest.raises(NotImplementedError, match="Nothing must define _train_model_from_features"):
        Nothing(identity_network(), ["0"]).repurpose(blob_features())
    both = "must define _predict_probability_from_features or _predict_label_from_features"
    with pytest.raises(NotImplementedError, match=both):
        OnlyTraining(identity_network(), ["0"]).repurpose(blob_features())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "feature_layer_names is empty"),
        ("avgpool", r'got the string .avgpool.; write \["avgpool"\]'),
        ("atuo", r'got the string .atuo.; write \["atuo"\], or "auto" to have layers chosen'),
        (["0", "0"], "names '0' more than once"),
        ([0], "a layer name must be text, got 0"),
        (None, "must be a list of layer names"),
        ({"0"}, "must be a list of layer names"),
    ],
)
def test_unusable_layer_names_are_refused_everywhere(names: Any, message: str) -> None:
    repurposer = KnnRepurposer(identity_network(), names)
    with pytest.raises(ValueError, match=message):
        repurposer.repurpose(blob_features())
    with pytest.raises(ValueError, match=message):
        repurposer.get_features_from_source_model(blob_features())


def test_unknown_layers_come_with_the_nearest_from_network_and_features() -> None:
    X, y = blobs()
    with pytest.raises(UnknownLayerError, match=r"'fc'.*nearest"):
        KnnRepurposer(small_network(), ["fc"]).repurpose(X, y)
    with pytest.raises(UnknownLayerError, match=r"no layer 'fc' \(nearest: \['0'\]\)"):
        KnnRepurposer(small_network(), ["fc"]).repurpose(blob_features())


def test_features_stand_in_for_data_in_every_method_and_only_the_asked_layers_are_used() -> None:
    X, y = blobs()
    network = small_network()
    wide = KnnRepurposer(network, ["0", "2", "4"]).get_features_from_source_model((X, y))
    repurposer = KnnRepurposer(network, ["2"])
    expected = KnnRepurposer(network, ["2"]).repurpose(X, y).predict_probability(X)
    assert np.array_equal(repurposer.repurpose(wide).predict_probability(wide), expected)
    assert repurposer.get_features_from_source_model(wide).layer_names == ["2"]
    assert repurposer.score(wide) == repurposer.score(X, y)


def test_y_beside_features_replaces_their_labels() -> None:
    X, y = blobs()
    features = Features({"0": X}, np.zeros(60, int))
    assert lr().repurpose(features, y).classes_.tolist() == [0, 1, 2]


def test_training_without_labels_says_how_to_give_them() -> None:
    X, _ = blobs()
    for data in (X, Features({"0": X})):
        with pytest.raises(ValueError, match=r"requires y to be passed.*training needs one label a row"):
            lr().repurpose(data)


def test_labels_are_judged_before_the_network_runs() -> None:
    X, _ = blobs()
    repurposer = lr()
    with pytest.raises(ValueError, match="1 class: 0"):
        repurposer.repurpose(X, np.zeros(60, int))
    assert "_cached_handler" not in vars(repurposer)


def test_nan_and_infinite_features_name_the_layer_and_the_rows() -> None:
    X, y = blobs()
    bad = X.copy()
    bad[[3, 5], 0] = np.nan
    bad[7, 1] = np.inf
    features = Features({"0": X, "1": bad}, y)
    repurposer = KnnRepurposer(identity_network(), ["0", "1"])
    message = re.escape("layer '1' gives NaN and inf in 3 of 60 rows (row 3, 5, 7)")
    with pytest.raises(ValueError, match=message):
        repurposer.repurpose(features)
    repurposer.repurpose(Features({"0": X, "1": X}, y))
    with pytest.raises(ValueError, match=message):
        repurposer.predict_label(features)


def test_large_finite_features_are_not_taken_for_infinite() -> None:
    X = np.full((4, 3), 3e38, np.float32)
    X[:2] = -3e38
    repurposer = Recorder(identity_network(), ["0"]).repurpose(Features({"0": X}, [0, 0, 1, 1]))
    assert np.array_equal(repurposer.target_model_[0], X)


def test_another_number_of_features_at_prediction_names_the_layer() -> None:
    X, y = blobs()
    repurposer = KnnRepurposer(identity_network(), ["0", "1"]).repurpose(Features({"0": X, "1": X}, y))
    message = re.escape(
        "X has 6 features, but KnnRepurposer is expecting 8 features as input: layer '1' gave 4 in training and gives 2"
    )
    with pytest.raises(ValueError, match=message):
        repurposer.predict_label(Features({"0": X, "1": X[:, :2]}))


def test_changing_the_layers_after_training_does_not_change_predictions() -> None:
    X, y = blobs()
    repurposer = KnnRepurposer(small_network(), ["2"]).repurpose(X, y)
    expected = repurposer.predict_probability(X)
    assert np.array_equal(repurposer.set_params(feature_layer_names=["0"]).predict_probability(X), expected)


def test_pooling_reaches_the_extraction() -> None:
    images = np.random.default_rng(0).normal(size=(6, 2, 3, 3)).astype(np.float32)
    labels = [0, 1, 0, 1, 0, 1]
    for pooling, expected in (
        ("auto", images.mean((2, 3))),
        ("max", images.max((2, 3))),
        ("flatten", images.reshape(6, -1)),
    ):
        repurposer = KnnRepurposer(identity_network(), ["0"], pooling=pooling)
        assert np.allclose(
            repurposer.get_features_from_source_model((images, labels)).matrix, expected, rtol=0, atol=1e-6
        )


def test_calibration_and_cross_validation_take_features() -> None:
    features = blob_features(n_samples=90)
    calibrated = CalibratedClassifierCV(KnnRepurposer(identity_network(), ["0"]), cv=3).fit(features, features.labels)
    assert calibrated.predict_proba(features).shape == (90, 3)
    scores = cross_val_score(
        KnnRepurposer(identity_network(), ["0"]), features, features.labels, cv=3, scoring="neg_log_loss"
    )
    assert np.isfinite(scores).all()


def test_a_clone_takes_the_traced_network_along() -> None:
    repurposer = lr()
    handler = repurposer.source_model_handler
    assert repurposer.__sklearn_clone__().source_model_handler is handler


def test_parameters_of_the_features_cannot_change_under_a_trained_head(tmp_path: Any) -> None:
    X, y = blobs()
    repurposer = KnnRepurposer(small_network(), ["2"], pooling="avg").repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "knn")
    loaded = load(tmp_path / "knn", repurposer.source_model)
    for trained in (repurposer, loaded):
        expected = trained.predict_label(X)
        trained.set_params(pooling="max")
        with pytest.raises(ValueError, match=r"pooling changed after training.*call repurpose again"):
            trained.predict_label(X)
        trained.set_params(pooling="avg", batch_size=7)
        assert np.array_equal(trained.predict_label(X), expected)
        trained.set_params(source_model=small_network())
        with pytest.raises(ValueError, match="source_model changed after training"):
            trained.score(X, y)
        assert np.array_equal(trained.repurpose(X, y).classes_, np.unique(y))
    with pytest.raises(ValueError, match="pooling cannot be changed after training"):
        load(tmp_path / "knn", small_network(), pooling="max")


def test_precision_reaches_the_extraction_and_is_fixed_by_training(tmp_path: Any) -> None:
    X, y = blobs()
    network = small_network()
    repurposer = KnnRepurposer(network, ["2"], precision="bfloat16").repurpose(X, y)
    lower = repurposer.get_features_from_source_model(X).matrix
    full = KnnRepurposer(network, ["2"]).get_features_from_source_model(X).matrix
    assert lower.dtype == np.float32
    assert 1e-5 < np.abs(lower - full).max() / np.abs(full).max() < 2**-5
    assert clone(repurposer).precision == "bfloat16"
    repurposer.save_repurposer(tmp_path / "knn")
    loaded = load(tmp_path / "knn", network)
    assert loaded.precision == "bfloat16"
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with pytest.raises(ValueError, match="precision cannot be changed after training"):
        load(tmp_path / "knn", network, precision="float32")
    with pytest.raises(ValueError, match="precision changed after training"):
        repurposer.set_params(precision="float32").predict_label(X)


def test_a_precision_that_there_is_not_is_named_in_training() -> None:
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'half'"):
        KnnRepurposer(small_network(), ["2"], precision="half").repurpose(*blobs())


def test_layers_are_chosen_by_the_training_labels_and_only_they_are_used_from_then_on() -> None:
    X, y = blobs()
    network = small_network()
    repurposer = LrRepurposer(network, "auto", c=1.0, random_state=0).repurpose(X, y)
    chosen = repurposer.feature_layer_names_
    assert tuple(chosen) in repurposer.layer_scores_
    assert 1 <= len(chosen) <= 3
    named = LrRepurposer(network, chosen, c=1.0, random_state=0).repurpose(X, y)
    assert np.array_equal(repurposer.predict_probability(X), named.predict_probability(X))
    assert np.array_equal(repurposer.training_features_, named.training_features_)
    assert list(repurposer.n_features_per_layer_) == chosen
    assert not hasattr(named, "layer_scores_")


@pytest.mark.parametrize(("cls", "options"), [(LrRepurposer, {"c": 1.0}), (GpRepurposer, {}), (KnnRepurposer, {})])
def test_chosen_layers_survive_saving_cloning_searching_and_folds(cls: Any, options: Any, tmp_path: Any) -> None:
    X, y = blobs()
    network = small_network()
    repurposer = cls(network, "auto", random_state=0, **options).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", network)
    assert loaded.feature_layer_names == "auto"
    assert loaded.feature_layer_names_ == repurposer.feature_layer_names_
    assert loaded.layer_scores_ == repurposer.layer_scores_
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert np.array_equal(loaded.predict_set(X, 0.8).members, repurposer.predict_set(X, 0.8).members)
    again = clone(repurposer).repurpose(X, y)
    assert again.layer_scores_ == repurposer.layer_scores_
    features = repurposer.get_features_from_source_model((X, y))
    search = GridSearchCV(clone(repurposer), {"feature_layer_names": ["auto", ["2"]]}, cv=2, error_score="raise")
    assert search.fit(features, y).predict(features).shape == (60,)


def test_with_auto_every_kind_of_data_gives_the_same_choice_and_features_bring_their_own_candidates() -> None:
    X, y = blobs()
    network = small_network()
    repurposer = LrRepurposer(network, "auto", c=1.0, random_state=0)
    features = repurposer.get_features_from_source_model((X, y))
    assert features.layer_names == ["0", "1", "2", "3"]
    by_data = clone(repurposer).repurpose(X, y)
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=7)
    for data in (features, loader):
        trained = clone(repurposer).repurpose(data)
        assert trained.feature_layer_names_ == by_data.feature_layer_names_
        assert trained.score(features) == by_data.score(X, y)
    few = clone(repurposer).repurpose(features.select(["0", "2"]))
    assert set().union(*few.layer_scores_) == {"0", "2"}


def test_the_choice_of_layers_is_dealt_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def choice(
        features: Features, codes: np.ndarray, random_state: np.random.RandomState, weights: None, groups: None
    ) -> LayerChoice:
        assert weights is None
        assert groups is None
        drawn.append(random_state.randint(1000))
        return LayerChoice(["2"], {})

    monkeypatch.setattr(meta_model_repurposer, "choose_layers", choice)
    KnnRepurposer(small_network(), "auto", random_state=5).repurpose(*blobs())
    assert drawn == [np.random.RandomState(5).randint(1000)]


def test_a_network_of_one_layer_leaves_nothing_to_choose() -> None:
    repurposer = LrRepurposer(identity_network(), "auto", c=1.0).repurpose(*blobs())
    assert (repurposer.feature_layer_names_, repurposer.layer_scores_) == (["0"], {})


def test_one_example_a_class_takes_the_last_candidate_with_a_warning() -> None:
    X, y = blobs()
    rows = [int(np.flatnonzero(y == code)[0]) for code in range(3)]
    with pytest.warns(UserWarning, match="no class has two examples.*takes '3'"):
        repurposer = LrRepurposer(small_network(), "auto", c=1.0).repurpose(X[rows], y[rows])
    assert repurposer.feature_layer_names_ == ["3"]


def test_choosing_among_flattened_layers_is_refused() -> None:
    repurposer = KnnRepurposer(small_network(), "auto", pooling="flatten")
    for call in (repurposer.repurpose, repurposer.get_features_from_source_model):
        with pytest.raises(ValueError, match=r'"auto" cannot go with pooling="flatten".*use pooling="auto"'):
            call(blobs())


class Centres:
    """A head of a user's own class."""

    def __init__(self, centres: np.ndarray) -> None:
        self.centres = centres

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        return softmax(-((rows[:, None] - self.centres) ** 2).sum(axis=2), axis=1)


class CentresRepurposer(MetaModelRepurposer):
    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> Centres:
        return Centres(np.stack([features[labels == code].mean(axis=0) for code in range(len(self.classes_))]))

    def _predict_probability_from_features(self, features: Any) -> np.ndarray:
        return self.target_model.probabilities(features)


class SavedCentresRepurposer(CentresRepurposer):
    def _head_state(self) -> Any:
        return {"centres": self.target_model.centres, "kind": ["mean", 1.5, None], "as a tensor": torch.ones(2)}

    def _load_head_state(self, state: Any) -> Any:
        assert state["kind"] == ["mean", 1.5, None]
        assert torch.equal(state["as a tensor"], torch.ones(2))
        assert len(self.classes_) == len(state["centres"])
        return Centres(state["centres"])


class SettingCentresRepurposer(SavedCentresRepurposer):
    def _load_head_state(self, state: Any) -> None:
        self.target_model_ = Centres(state["centres"])


@pytest.mark.parametrize("kind", [SavedCentresRepurposer, SettingCentresRepurposer])
@pytest.mark.parametrize("asked", [False, True])
def test_a_head_of_a_class_of_ones_own_is_saved_by_two_hooks(kind: Any, asked: bool, tmp_path: Any) -> None:
    features = blob_features()
    repurposer = kind(identity_network(), ["0"]).repurpose(features)
    if asked:  # then heads of folds are there too
        repurposer.predict_set(features, 0.8)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", identity_network())
    assert type(loaded.target_model) is Centres
    assert np.array_equal(loaded.predict_probability(features), repurposer.predict_probability(features))
    expected = repurposer.predict_set(features, 0.8).members
    assert np.array_equal(loaded.predict_set(features, 0.8).members, expected)
    assert not hasattr(loaded, "head_state_")
    loaded.save_repurposer(tmp_path / "again")
    assert np.array_equal(
        load(tmp_path / "again", identity_network()).target_model.centres, loaded.target_model.centres
    )


def test_a_hook_that_makes_no_head_is_named(tmp_path: Any) -> None:
    class WrongCentresRepurposer(SavedCentresRepurposer):
        def _load_head_state(self, state: Any) -> Any:
            return Centres(state["centers"])

    class NoCentresRepurposer(SavedCentresRepurposer):
        def _load_head_state(self, state: Any) -> Any:
            state["centres"]

    for kind, said in (
        (WrongCentresRepurposer, r"_load_head_state makes no head of what was saved: KeyError: 'centers'"),
        (NoCentresRepurposer, r"_load_head_state returned None, and set no target_model_"),
    ):
        kind(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
        with pytest.raises(CorruptFileError, match=rf"saved cannot be loaded: {kind.__name__}\.{said}"):
            load(tmp_path / "saved", identity_network())


def test_without_the_hooks_nothing_is_written_and_they_are_named(tmp_path: Any) -> None:
    class OneHookRepurposer(CentresRepurposer):
        def _head_state(self) -> Any:
            return self.target_model.centres

    class OddStateRepurposer(SavedCentresRepurposer):
        def _head_state(self) -> Any:
            return {"head": self.target_model}

    for kind, said in (
        (CentresRepurposer, r"target_model_ is or holds .*Centres\n.*_head_state\(\), .*_load_head_state"),
        (OneHookRepurposer, "OneHookRepurposer must define _load_head_state too"),
        (OddStateRepurposer, "head_state_ is or holds an object of type .*Centres"),
    ):
        with pytest.raises(ValueError, match=said):
            kind(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


class LayeredRepurposer(MetaModelRepurposer):
    """Its head is a network of torch's layers, of whatever random weights."""

    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> nn.Module:
        chain = [nn.Linear(features.shape[1], 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, len(self.classes_))]
        head = nn.Sequential(*chain, nn.Softmax(dim=1))
        head(torch.from_numpy(features))
        return head.eval()

    @torch.no_grad()
    def _predict_probability_from_features(self, features: Any) -> np.ndarray:
        return self.target_model(torch.from_numpy(features)).numpy()


def test_a_head_of_torchs_layers_is_saved_without_hooks(tmp_path: Any) -> None:
    features = blob_features()
    repurposer = LayeredRepurposer(identity_network(), ["0"]).repurpose(features)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", identity_network())
    assert np.array_equal(loaded.predict_probability(features), repurposer.predict_probability(features))


def test_a_class_that_lost_its_hooks_says_which_it_needs(tmp_path: Any) -> None:
    def define(base: type) -> type:
        class Notebook(base):  # type: ignore[misc]
            pass

        return Notebook

    define(SavedCentresRepurposer)(identity_network(), ["0"]).repurpose(blob_features()).save_repurposer(tmp_path / "s")
    define(CentresRepurposer)
    with pytest.raises(CorruptFileError, match="Notebook must define _load_head_state"):
        load(tmp_path / "s", identity_network())
