from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import log_loss
from torch import nn, tensor
from torch.utils.data import DataLoader, TensorDataset

from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.data.labels import encode_labels
from repurpose.domain import CoralRepurposer
from repurpose.selection import tune
from repurpose.selection.results.paired import selection_folds
from tests.repurpose.selection.tuning.heads import CentreRepurposer, blobs, counting_network, images, small_network

SHARPNESS = {"sharpness": (1e-3, 1.0, "log")}


def test_the_best_repurposer_is_the_one_that_learns_those_parameters_from_the_data() -> None:
    repurposer = LrRepurposer(small_network(), random_state=0)
    space = {"c": [0.01, 1.0], "feature_layer_names": [["0"], ["0", "1"]]}
    best = tune(repurposer, blobs(), space=space, budget=4, random_state=0)
    alone = clone(repurposer).set_params(**best.best_parameters).repurpose(blobs())
    rows = blobs()[0]
    np.testing.assert_allclose(best.best_repurposer.predict_proba(rows), alone.predict_proba(rows), atol=1e-6)
    of_best, of_alone = vars(best.best_repurposer), vars(alone)
    assert {name for name in of_best if name.endswith("_")} == {name for name in of_alone if name.endswith("_")}
    assert of_best["row_shape_"] == of_alone["row_shape_"] == (2,)
    assert list(of_best["class_names_"]) == list(of_alone["class_names_"])
    assert not hasattr(repurposer, "classes_")


class OfFewParameters(CentreRepurposer):
    """A class of a user's own whose constructor leaves out what its base class takes besides."""

    def __init__(self, source_model: nn.Module, feature_layer_names: list[str] | None = None, sharpness: float = 1.0):
        super().__init__(source_model, feature_layer_names, sharpness)


def test_a_class_need_not_take_all_that_its_base_class_has() -> None:
    few, all_of_them = (
        tune(kind(small_network(), ["0"]), blobs(), space=SHARPNESS, budget=3, random_state=0)
        for kind in (OfFewParameters, CentreRepurposer)
    )
    assert few.best_parameters == all_of_them.best_parameters
    assert few.best_value == all_of_them.best_value


def test_a_network_is_trained_on_all_rows_in_the_end() -> None:
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "1", num_epochs=2, random_state=0)
    best = tune(repurposer, blobs(), space={"label_smoothing": [0.0, 0.5]}, budget=2, random_state=0)
    alone = clone(repurposer).set_params(**best.best_parameters).repurpose(blobs())
    np.testing.assert_allclose(best.best_repurposer.predict_proba(blobs()[0]), alone.predict_proba(blobs()[0]))


def test_the_outer_score_is_that_of_rows_that_chose_nothing() -> None:
    X, y = blobs()
    options = {"space": {"sharpness": [0.02]}, "budget": 1, "random_state": 5}
    result = tune(CentreRepurposer(small_network(), random_state=0), X, y, nested=4, **options)
    folds = selection_folds(encode_labels(y).codes, np.random.RandomState(5))
    expected = []
    for fold in range(4):
        alone = CentreRepurposer(small_network(), sharpness=0.02).repurpose(X[folds != fold], y[folds != fold])
        expected.append(-log_loss(y[folds == fold], alone.predict_proba(X[folds == fold]), labels=alone.classes_))
    np.testing.assert_allclose(result.outer_scores, expected, atol=1e-6)
    assert result.outer_score == pytest.approx(np.mean(expected))
    assert result.outer_error == pytest.approx(np.std(expected, ddof=1) / 2)


def test_each_outer_fold_has_a_search_of_its_own_and_one_extraction_serves_all(tmp_path: Path) -> None:
    network, calls = counting_network()
    options = {"space": SHARPNESS, "budget": 3, "random_state": 0, "nested": 2, "study_file": tmp_path / "study.log"}
    first = tune(CentreRepurposer(network), images(), **options)
    assert sum(calls) == 40 + 5
    before = CentreRepurposer.n_trainings
    again = tune(CentreRepurposer(network), images(), **options)
    assert CentreRepurposer.n_trainings - before == 2 + 1  # what the outer folds and all rows chose
    np.testing.assert_array_equal(first.outer_scores, again.outer_scores)
    assert len(first.trials) == 3


def test_without_nested_there_is_no_score_and_it_says_so() -> None:
    result = tune(CentreRepurposer(small_network()), blobs(), space=SHARPNESS, budget=2, random_state=0)
    assert result.outer_score is result.outer_error is result.outer_scores is None
    assert "not known without nested=5" in repr(result)
    assert repr(result).startswith("TuningResult(sharpness=")
    assert "chosen by neg_log_loss" in repr(result)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"space": {"sharpnes": [1.0]}}, "no parameter 'sharpnes' .nearest: sharpness"),
        ({"space": {"sharpness": (2.0, 1.0)}}, "no range"),
        ({"space": {"sharpness": []}}, "empty"),
        ({"scoring": "neg_logloss"}, "nearest: neg_log_loss"),
        ({"budget": 0}, "budget must be a number of trials"),
        ({"budget": 600.0}, "seconds= limits the time"),
        ({"budget": None}, "seconds they may take"),
        ({"seconds": -1}, "seconds must be"),
        ({"nested": 1}, "from 2 to 5, got 1"),
        ({"nested": 10}, "from 2 to 5, got 10"),
        ({"pruner": "medain"}, "nearest: 'median'"),
        ({"groups": np.zeros(3)}, "groups has 3"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(options: dict[str, object], said: str) -> None:
    before = CentreRepurposer.n_trainings
    with pytest.raises(ValueError, match=said):
        tune(CentreRepurposer(small_network()), blobs(), **{"space": SHARPNESS, "budget": 2, **options})
    assert CentreRepurposer.n_trainings == before


@pytest.mark.parametrize(
    ("n_of_a_class", "nested", "said"), [(3, 5, r"not 3: give nested=3"), (2, 2, "three rows .or groups. of a class")]
)
def test_too_few_rows_for_the_outer_folds_are_told_before_anything_is_trained(
    n_of_a_class: int, nested: int, said: str
) -> None:
    """All trials of the search had run before, and then there was a fold of no rows."""
    before = CentreRepurposer.n_trainings
    data = blobs()[0][: 2 * n_of_a_class], np.arange(2 * n_of_a_class) % 2
    with pytest.raises(ValueError, match=said):
        tune(CentreRepurposer(small_network()), data, space=SHARPNESS, budget=2, nested=nested)
    assert CentreRepurposer.n_trainings == before


def test_methods_that_need_data_of_another_domain_are_refused() -> None:
    with pytest.raises(TypeError, match="CoralRepurposer is none"):
        tune(CoralRepurposer(small_network()), blobs(), space={"pooling": ["avg"]}, budget=1)
    with pytest.raises(TypeError, match="takes a Repurposer, got Sequential"):
        tune(small_network(), blobs(), space=SHARPNESS, budget=1)


def test_early_stopping_in_the_end_needs_rows_to_judge_by() -> None:
    space = {"label_smoothing": [0.0, 0.1]}
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "1", num_epochs=2, early_stopping=1)
    with pytest.raises(ValueError, match="give the Repurposer a validation_fraction"):
        tune(repurposer, blobs(), space=space, budget=1)
    repurposer.set_params(validation_fraction=0.2)
    assert tune(repurposer, blobs(), space=space, budget=1).best_repurposer.validation_fraction == 0.2


def test_networks_are_tuned_on_datasets_and_folders_and_not_on_loaders(tmp_path: Path) -> None:
    space = {"optimizer_params__learning_rate": [1e-3, 1e-2]}
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "1", num_epochs=1)
    X, y = blobs()
    dataset = TensorDataset(tensor(X), tensor(encode_labels(y).codes))
    assert tune(repurposer, dataset, space=space, budget=1).best_repurposer.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="rows of a DataLoader cannot be held out by number; give its dataset"):
        tune(repurposer, DataLoader(dataset, 8), space=space, budget=1)
    for number, row in enumerate(images()[0]):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((row[0] * 20).clip(0, 255).astype(np.uint8)).save(path)
    of_images = NeuralNetworkFineTuneRepurposer(
        counting_network()[0],
        "flat",
        num_epochs=1,
        transform=lambda image: tensor(np.array(image)[None, ..., 0] / 255).float(),
    )
    result = tune(of_images, str(tmp_path / "images"), space=space, budget=1)
    assert result.best_repurposer.classes_.tolist() == ["a", "b"]
