from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from model_handler import Features, ModelHandler
from repurpose import LrRepurposer
from repurpose.selection import tune
from repurpose.selection.tuning.extractions import Extractions
from repurpose.selection.tuning.space import judged_space
from tests.repurpose.selection.tuning.heads import (
    N_ROWS,
    CentreRepurposer,
    blobs,
    counting_network,
    images,
    small_network,
)

LAYERS = [["conv"], ["relu"], ["conv", "relu"], None]


def test_a_hundred_trials_run_the_network_as_often_as_one_extraction() -> None:
    network, calls = counting_network()
    ModelHandler(network, batch_size=16).extract(images()[0], ["relu"])
    of_one_extraction = calls.copy()
    calls.clear()
    space = {"sharpness": (1e-3, 10.0, "log"), "pooling": ["avg", "max", "flatten"], "feature_layer_names": LAYERS[:3]}
    result = tune(CentreRepurposer(network, batch_size=16), images(), space=space, budget=100, random_state=0)
    assert len(result.trials) == 100
    assert set(result.trials["state"]) == {"complete"}
    assert set(result.trials["pooling"]) == {"avg", "max", "flatten"}
    assert calls == of_one_extraction  # with the two rows that a new network is tried on
    assert calls[-3:] == [16, 16, 8]


def test_features_of_a_trial_are_those_of_an_extraction_of_its_own() -> None:
    repurposer = CentreRepurposer(counting_network()[0])
    space = judged_space({"pooling": ["avg", "max"], "feature_layer_names": LAYERS}, repurposer)
    extractions = Extractions(repurposer, images(), space)
    for pooling in ("avg", "max"):
        for label, layers in zip(space.choices["feature_layer_names"], LAYERS):
            found = extractions.features({"pooling": pooling, "feature_layer_names": label})
            alone = CentreRepurposer(counting_network()[0], layers, pooling=pooling)
            expected = alone.get_features_from_source_model(images())
            assert found.layer_names == expected.layer_names
            np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-6)
            np.testing.assert_array_equal(found.labels, images()[1])


def test_what_features_are_computed_with_is_an_extraction_for_each_value() -> None:
    network, calls = counting_network()
    repurposer = CentreRepurposer(network)
    with pytest.warns(UserWarning, match="batch_size in the space: the network runs over the data once for each value"):
        tune(repurposer, images(), space={"batch_size": [N_ROWS, 20]}, budget=6, random_state=0)
    assert sorted(n_rows for n_rows in calls if n_rows > 2) == [20, 20, N_ROWS]


def test_on_features_nothing_is_tuned_that_only_the_network_could_give() -> None:
    features = Features({"relu": images()[0]}, images()[1])
    with pytest.raises(ValueError, match="pooling cannot be tuned on Features"):
        tune(LrRepurposer(counting_network()[0]), features, space={"pooling": ["avg", "max"]}, budget=1)
    result = tune(CentreRepurposer(counting_network()[0]), features, space={"sharpness": [1e-3, 1.0]}, budget=4)
    assert result.best_repurposer.feature_layer_names_ == ["relu"]


def test_features_that_a_cache_has_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"space": {"pooling": ["avg", "max"]}, "budget": 2, "random_state": 0}
    network = counting_network()[0][1:]  # nothing is kept of a network that counts, and so changes
    first = tune(CentreRepurposer(network, ["conv"], cache_dir=tmp_path), images(), **options)

    def refuse(conv: nn.Conv2d, rows: Tensor) -> Tensor:
        raise RuntimeError("the network runs")

    monkeypatch.setattr(nn.Conv2d, "forward", refuse)
    second = tune(CentreRepurposer(network, ["conv"], cache_dir=tmp_path), images(), **options)
    assert list(first.trials["value"]) == list(second.trials["value"])
    assert second.best_repurposer.row_shape_ == first.best_repurposer.row_shape_ == (1, 5, 5)


def test_the_network_itself_can_be_tuned() -> None:
    networks = [small_network(), nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))]
    with pytest.warns(UserWarning, match="source_model in the space"):
        result = tune(
            CentreRepurposer(small_network()), blobs(), space={"source_model": networks}, budget=6, random_state=0
        )
    values = dict(zip(result.trials["source_model"], result.trials["value"]))
    for name, network in zip(("Sequential (69 parameters)", "Sequential (17 parameters)"), networks):
        alone = tune(CentreRepurposer(network), blobs(), space={"sharpness": [1.0]}, budget=1, random_state=0)
        assert values[name] == pytest.approx(alone.best_value, abs=1e-6)
    assert result.best_repurposer.source_model is result.best_parameters["source_model"]
