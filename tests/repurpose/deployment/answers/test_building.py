from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from model_handler import Features
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    Repurposer,
    SvmRepurposer,
)
from repurpose.deployment.answers import answers_of
from tests.repurpose.examples import (
    CentroidRepurposer,
    DrawingRepurposer,
    KnnRepurposer,
    blob_features,
    blobs,
    identity_network,
    lr,
    small_network,
)
from tests.repurpose.hard_rows import as_features, new_rows, repeated_row, with_lone_classes
from tests.repurpose.in_onnxruntime import in_onnxruntime

QUICK: dict[type, dict[str, Any]] = {
    LrRepurposer: {"c": 1.0},
    LaplaceRepurposer: {"c": 1.0},
    SvmRepurposer: {},
    GpRepurposer: {},
    BnnRepurposer: {"c": 1.0, "num_epochs": 2, "num_samples_mc_prediction": 10},
}
ROUNDING = 1e-10


def trained(cls: Any, X: np.ndarray, y: np.ndarray, **given: Any) -> Any:
    repurposer = cls(identity_network(), ["0", "1"], random_state=0, **QUICK[cls])
    return repurposer.repurpose(as_features(X, y), **given)


def compare(found: Any, repurposer: Repurposer, data: Any, method: str = "auto", **options: Any) -> None:
    """Probabilities, labels, sets and p-values are those of the Repurposer's own methods."""
    probabilities, label_index, members, p_values = (np.asarray(each) for each in found)
    assert np.abs(probabilities - repurposer.predict_probability(data)).max() < ROUNDING
    assert (repurposer.classes_[label_index] == repurposer.predict_label(data)).all()
    assert (members == repurposer.predict_set(data, **options).members).all()
    assert np.abs(p_values - repurposer.unfamiliarity_p_value(data, method=method)).max() < ROUNDING


def check(repurposer: Repurposer, rows: np.ndarray, method: str = "auto", **options: Any) -> None:
    answers = answers_of(repurposer, method=method, **options)
    with torch.no_grad():
        compare(answers(torch.from_numpy(rows)), repurposer, as_features(rows), method, **options)


def familiar_rows(X: np.ndarray, y: np.ndarray, n_rows: int = 80, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Rows drawn as those of training were, about, and their labels."""
    rng = np.random.default_rng(seed)
    like = rng.integers(0, len(X), n_rows)
    return (X[like] + 3 * rng.normal(size=(n_rows, X.shape[1]))).astype(np.float32), y[like]


def fresh_rows(X: np.ndarray) -> np.ndarray:
    """Rows that are none of training: at an exact tie the last digit decides, in the library too."""
    return new_rows(X)[10:]


@pytest.mark.parametrize("cls", QUICK)
def test_by_the_heads_and_detectors_of_folds(cls: type) -> None:
    X, y = with_lone_classes()
    repurposer = trained(cls, X, y)
    for score in ("lac", "aps", "raps"):
        check(repurposer, fresh_rows(X), score=score)
    repurposer.calibrate()
    check(repurposer, fresh_rows(X), coverage=0.7, allow_empty=True)


@pytest.mark.parametrize("cls", QUICK)
def test_by_rows_given_to_conformalize(cls: type) -> None:
    X, y = repeated_row()
    repurposer = trained(cls, X, y).conformalize(as_features(*familiar_rows(X, y)))
    for score in ("lac", "aps", "raps"):
        check(repurposer, fresh_rows(X), score=score)
    repurposer.calibrate(as_features(*familiar_rows(X, y, seed=5)), method="vector")
    check(repurposer, fresh_rows(X), coverage=0.5, allow_empty=True)


@pytest.mark.parametrize(
    "method", ["mixed_mahalanobis", "mahalanobis", "relative_mahalanobis", "knn", "energy", "variance"]
)
@pytest.mark.parametrize("conformal", [False, True])
def test_each_measure_of_unfamiliarity(method: str, conformal: bool) -> None:
    X, y = blobs()
    for cls in (GpRepurposer, LaplaceRepurposer):
        repurposer = trained(cls, X, y)
        if conformal:
            repurposer.conformalize(as_features(*familiar_rows(X, y)))
        check(repurposer, fresh_rows(X), method=method)


def test_rows_in_groups_and_rows_with_weights_count_as_they_do_there() -> None:
    X, y = blobs(120)
    rows = fresh_rows(X)
    check(trained(LrRepurposer, X, y, groups=np.arange(120) // 4), rows, method="mahalanobis")
    check(trained(LrRepurposer, X, y, sample_weight=1 + np.arange(120) % 3), rows, score="aps")
    grouped = trained(LrRepurposer, X, y)
    grouped.conformalize(as_features(*familiar_rows(X, y)), groups=np.arange(80) // 3)
    check(grouped, rows)


def test_a_row_that_is_a_reference_row_too_is_as_strange_as_itself() -> None:
    X, y = blobs()
    rows, labels = familiar_rows(X, y)
    repurposer = trained(GpRepurposer, X, y).conformalize(as_features(rows, labels))
    for method in ("mixed_mahalanobis", "knn", "energy", "variance"):
        p_values = answers_of(repurposer, method=method)(torch.from_numpy(rows))[3].numpy()
        ranks = np.sort(p_values) * 81
        assert (ranks >= 1 + np.arange(1, 81) - 1e-9).all()  # each counts itself and those that are stranger


@pytest.mark.slow
@pytest.mark.parametrize("cls", QUICK)
def test_onnxruntime_gives_the_same_answers_by_folds(cls: type) -> None:
    X, y = repeated_row()
    repurposer, rows = trained(cls, X, y), fresh_rows(X)
    compare(in_onnxruntime(answers_of(repurposer, score="raps"), rows), repurposer, as_features(rows), score="raps")


@pytest.mark.parametrize("cls", [LrRepurposer, *(pytest.param(cls, marks=pytest.mark.slow) for cls in list(QUICK)[1:])])
def test_onnxruntime_gives_the_same_answers_by_rows_given_to_conformalize(cls: type) -> None:
    X, y = repeated_row()
    repurposer = trained(cls, X, y).calibrate().conformalize(as_features(*familiar_rows(X, y)))
    rows = fresh_rows(X)
    compare(in_onnxruntime(answers_of(repurposer), rows), repurposer, as_features(rows))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mahalanobis", "relative_mahalanobis", "knn", "energy", "variance"])
def test_onnxruntime_gives_the_same_p_values(method: str) -> None:
    X, y = repeated_row()
    repurposer, rows = trained(GpRepurposer, X, y), fresh_rows(X)
    compare(in_onnxruntime(answers_of(repurposer, method=method), rows), repurposer, as_features(rows), method=method)


@pytest.mark.parametrize("n_members", [1, 2])
def test_networks_answer_from_their_logits(n_members: int) -> None:
    X, y = blobs()
    network = NeuralNetworkFineTuneRepurposer(
        small_network(), "1", num_epochs=2, num_members=n_members, random_state=0, device="cpu"
    )
    network.repurpose((X, y))
    with pytest.raises(ValueError, match="conformalize"):
        answers_of(network)
    network.conformalize(*familiar_rows(X, y))
    rows = blobs(200, seed=6)[0]
    logits = network._features_for_head(rows).matrix
    for score in ("lac", "aps", "raps"):
        answers = answers_of(network, score=score)
        assert answers.method == "energy"
        probabilities, label_index, members, p_values = (each.numpy() for each in answers(torch.from_numpy(logits)))
        assert np.abs(probabilities - network.predict_probability(rows)).max() < 1e-6
        assert (label_index == network.predict_label(rows)).all()
        assert (members == network.predict_set(rows, score=score).members).all()
        assert np.abs(p_values - network.unfamiliarity_p_value(rows, method="energy")).max() < 1.5 / 81


class ExportableKnn(KnnRepurposer):
    """The user's own meta-model, with the hook; what it exports is another head, which is what a test can see."""

    def _onnx_head(self) -> nn.Module:
        class Even(nn.Module):
            def forward(self, features: torch.Tensor) -> torch.Tensor:
                return torch.full((len(features), 3), 1 / 3)

        return Even()


class OwnProbabilities(LrRepurposer):
    """A subclass whose probabilities are no longer those of the module that it inherits."""

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return super()._predict_probability_from_features(features[:, ::-1])


def test_a_head_without_the_hook_is_refused_and_one_with_it_is_taken() -> None:
    network = identity_network()
    with pytest.raises(NotImplementedError, match=r"KnnRepurposer cannot be exported.*_onnx_head"):
        answers_of(KnnRepurposer(network, ["0"]).repurpose(blob_features()))
    with pytest.raises(NotImplementedError, match=r"OwnProbabilities cannot be exported.*_onnx_head"):
        answers_of(OwnProbabilities(network, ["0"], c=1.0).repurpose(blob_features()))
    with pytest.raises(NotImplementedError, match=r"CentroidRepurposer has no probabilities"):
        answers_of(CentroidRepurposer(network, ["0"]).repurpose(blob_features()))
    drawing = DrawingRepurposer(network, ["0"], c=1.0).repurpose(blob_features())
    with pytest.raises(NotImplementedError, match=r"DrawingRepurposer cannot be exported.*_onnx_variance"):
        answers_of(drawing, method="variance")
    answers = answers_of(ExportableKnn(network, ["0"]).repurpose(blob_features()).conformalize(blob_features(seed=3)))
    assert answers(torch.zeros(2, 4))[0].tolist() == [[pytest.approx(1 / 3)] * 3] * 2


def test_bad_questions_are_refused_before_any_work() -> None:
    repurposer = lr().repurpose(blob_features())
    with pytest.raises(ValueError, match=r"0\.99 needs at least 99 rows to judge by, and there are 60"):
        answers_of(repurposer, 0.99)
    with pytest.raises(ValueError, match="coverage must be above 0"):
        answers_of(repurposer, 90)
    with pytest.raises(ValueError, match="score must be one of"):
        answers_of(repurposer, score="lacc")
    with pytest.raises(ValueError, match="method must be one of"):
        answers_of(repurposer, method="odin")
    with pytest.raises(NotFittedError):
        answers_of(lr())


def test_rows_that_were_deleted_are_missed_by_name() -> None:
    repurposer = lr().repurpose(blob_features())
    del repurposer.training_features_
    with pytest.raises(ValueError, match="has no training_features_"):
        answers_of(repurposer)


def test_the_size_is_that_of_the_numbers() -> None:
    X, y = blobs(60)
    by_folds = answers_of(trained(GpRepurposer, X, y))
    by_rows = answers_of(trained(GpRepurposer, X, y).conformalize(as_features(*familiar_rows(X, y))))
    one, fold = 8 * 60**2, 8 * 48**2  # the stored matrix of a head
    assert one + 5 * fold < by_folds.n_bytes < 2 * (one + 5 * fold)
    assert one < by_rows.n_bytes < 2 * one
    assert by_rows.n_bytes < by_folds.n_bytes / 3


def test_features_of_one_layer_and_an_int_coverage_need_no_other_call() -> None:
    answers = answers_of(lr().repurpose(Features({"0": blobs()[0]}, blobs()[1])))
    assert (answers.coverage, answers.score, answers.method) == (0.9, "lac", "mixed_mahalanobis")
    found = answers(torch.from_numpy(blobs(7, seed=1)[0]))
    assert [(tuple(each.shape), each.dtype) for each in found] == [
        ((7, 3), torch.float64),
        ((7,), torch.int64),
        ((7, 3), torch.bool),
        ((7,), torch.float64),
    ]
