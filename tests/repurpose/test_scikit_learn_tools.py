"""`Features` inside scikit-learn's tools: those that take rows by index work, those that want an array are told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import calibration, compose, ensemble, feature_selection, model_selection, multiclass, multioutput
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (makes the searches importable)
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import resample, shuffle

from model_handler import Features
from repurpose import LrRepurposer
from tests.repurpose.examples import blobs, identity_network, small_network

X, Y = blobs(30)
TWO = (Y > 0).astype(int)
GRID = {"c": [0.1, 1.0]}
LAYERS = ["1", "3"]


def lr() -> LrRepurposer:
    return LrRepurposer(small_network(), LAYERS, c=1.0, random_state=0)


def features() -> Features:
    return lr().get_features_from_source_model((X, Y))


def answers(tool: Any, y: np.ndarray = Y) -> Callable[[Any], np.ndarray]:
    return lambda data: tool.fit(data, y).predict(data)


def splitting(data: Any) -> np.ndarray:
    train, test, y, _ = model_selection.train_test_split(data, Y, random_state=0)
    return lr().fit(train, y).predict_proba(test)


WORKING: dict[str, Callable[[Any], np.ndarray]] = {
    "VotingClassifier": answers(ensemble.VotingClassifier([("a", lr()), ("b", lr())], voting="soft")),
    "StackingClassifier": answers(ensemble.StackingClassifier([("a", lr())], cv=2)),
    "OneVsRestClassifier": answers(multiclass.OneVsRestClassifier(lr())),
    "MultiOutputClassifier": answers(multioutput.MultiOutputClassifier(lr()), np.stack([Y, TWO], axis=1)),
    "CalibratedClassifierCV": answers(calibration.CalibratedClassifierCV(lr(), cv=2)),
    "FrozenEstimator": lambda data: FrozenEstimator(lr().fit(data, Y)).predict(data),
    "GridSearchCV": answers(model_selection.GridSearchCV(lr(), GRID, cv=2, error_score="raise")),
    "RandomizedSearchCV": answers(model_selection.RandomizedSearchCV(lr(), GRID, n_iter=2, cv=2, random_state=0)),
    "HalvingGridSearchCV": answers(model_selection.HalvingGridSearchCV(lr(), GRID, cv=2, random_state=0)),
    "HalvingRandomSearchCV": answers(model_selection.HalvingRandomSearchCV(lr(), GRID, cv=2, random_state=0)),
    "TunedThresholdClassifierCV": answers(model_selection.TunedThresholdClassifierCV(lr(), cv=2), TWO),
    "FixedThresholdClassifier": answers(model_selection.FixedThresholdClassifier(lr(), threshold=0.3), TWO),
    "Pipeline": answers(make_pipeline(FunctionTransformer(), lr())),
    "cross_val_score": lambda data: model_selection.cross_val_score(lr(), data, Y, cv=2, error_score="raise"),
    "cross_validate": lambda data: model_selection.cross_validate(lr(), data, Y, cv=2)["test_score"],
    "cross_val_predict": lambda data: model_selection.cross_val_predict(lr(), data, Y, cv=2, method="predict_proba"),
    "learning_curve": lambda data: model_selection.learning_curve(
        lr(), data, Y, cv=2, train_sizes=[0.5, 1.0], shuffle=True, random_state=0, error_score="raise"
    )[2],
    "validation_curve": lambda data: model_selection.validation_curve(
        lr(), data, Y, param_name="c", param_range=GRID["c"], cv=2, error_score="raise"
    )[1],
    "permutation_test_score": lambda data: model_selection.permutation_test_score(
        lr(), data, Y, cv=2, n_permutations=2, random_state=0
    )[1],
    "train_test_split": splitting,
    "resample": lambda data: lr().fit(*resample(data, Y, random_state=0)).predict(data),
    "shuffle": lambda data: lr().fit(*shuffle(data, Y, random_state=0)).predict(data),
}

REFUSING: dict[str, Callable[[Any], Any]] = {
    "StackingClassifier(passthrough=True)": answers(ensemble.StackingClassifier([("a", lr())], cv=2, passthrough=True)),
    "BaggingClassifier": answers(ensemble.BaggingClassifier(lr(), n_estimators=2)),
    "AdaBoostClassifier": answers(ensemble.AdaBoostClassifier(lr(), n_estimators=2)),
    "SelfTrainingClassifier": answers(SelfTrainingClassifier(lr())),
    "OneVsOneClassifier": answers(multiclass.OneVsOneClassifier(lr())),
    "OutputCodeClassifier": answers(multiclass.OutputCodeClassifier(lr())),
    "ClassifierChain": answers(multioutput.ClassifierChain(lr()), np.stack([TWO, 1 - TWO], axis=1)),
    "StandardScaler": answers(make_pipeline(StandardScaler(), lr())),
    "FeatureUnion": answers(make_pipeline(FeatureUnion([("a", FunctionTransformer())]), lr())),
    "ColumnTransformer": answers(make_pipeline(compose.ColumnTransformer([("a", "passthrough", [0])]), lr())),
    "RFE": answers(feature_selection.RFE(lr(), importance_getter="target_model_.coef_")),
    "SequentialFeatureSelector": lambda data: feature_selection.SequentialFeatureSelector(lr()).fit(data, Y),
    "permutation_importance": lambda data: permutation_importance(lr().fit(data, Y), data, Y, n_repeats=1),
}


@pytest.mark.parametrize("tool", WORKING)
def test_tools_that_take_rows_by_index_give_what_raw_inputs_give(tool: str) -> None:
    by_features, by_inputs = WORKING[tool](features()), WORKING[tool](X)
    assert by_features.shape == by_inputs.shape
    # Features of other batches differ in their last bits, and lbfgs stops elsewhere within its tolerance of 1e-5.
    assert np.allclose(by_features, by_inputs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("tool", REFUSING)
def test_tools_that_want_an_array_are_told_what_features_are(tool: str) -> None:
    with pytest.raises(TypeError, match=r"a Features is (not an array.*features\.matrix|indexed by rows alone)"):
        REFUSING[tool](features())


@pytest.mark.parametrize("tool", [ensemble.BaggingClassifier, multiclass.OneVsOneClassifier])
def test_the_matrix_goes_everywhere_by_a_network_that_changes_nothing(tool: Any) -> None:
    given, plain = features(), LrRepurposer(identity_network(), ["0"], c=1.0)
    assert np.mean(tool(plain).fit(given.matrix, Y).predict(given.matrix) == Y) > 0.6
