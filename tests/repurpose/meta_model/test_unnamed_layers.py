"""Heads take the default layer where none is named, and say which in `feature_layer_names_`."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from model_handler import Features
from repurpose import BnnRepurposer, GpRepurposer, LaplaceRepurposer, LrRepurposer, SvmRepurposer, load
from tests.repurpose.examples import CentroidRepurposer, KnnRepurposer, blob_features, blobs, small_network

HEADS = [LrRepurposer, SvmRepurposer, GpRepurposer, LaplaceRepurposer, BnnRepurposer]


def test_a_network_that_ends_in_no_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not end in a linear layer.*feature_layer_names=\['1'\]"):
        LrRepurposer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).repurpose(torch.zeros(4, 3, 5, 5), [0, 1, 0, 1])


@pytest.mark.parametrize("network", [nn.Identity(), nn.Sequential()])
def test_a_network_without_layers_is_told_so(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="has no layers"):
        LrRepurposer(network).repurpose(torch.zeros(4, 3), [0, 1, 0, 1])


@pytest.mark.parametrize("head", HEADS)
def test_every_head_takes_it_where_no_layer_is_named(head: Any) -> None:
    assert inspect.signature(head).parameters["feature_layer_names"].default is None
    assert head("efficientnet-lite0").feature_layer_names is None


def test_it_gives_what_naming_it_gives_and_stays_none() -> None:
    X, y = blobs()
    network = small_network()
    named, default = (LrRepurposer(network, *names, c=1.0, random_state=0).repurpose(X, y) for names in ([["3"]], []))
    assert default.feature_layer_names is None
    assert (default.feature_layer_names_, default.n_features_in_) == (["3"], 5)
    assert np.array_equal(default.predict_probability(X), named.predict_probability(X))
    assert default.get_features_from_source_model(X).layer_names == ["3"]
    assert LrRepurposer(network).get_features_from_source_model(X).layer_names == ["3"]
    assert repr(default) == "LrRepurposer(source_model=Sequential (83 parameters), c=1.0, random_state=0)"
    assert clone(default).feature_layer_names is None


class Untraceable(nn.Module):
    """Its way depends on the values, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        if x.sum() > 1e9:
            x = -x
        return self.head(x)


def test_networks_that_cannot_be_traced_have_it_too() -> None:
    X, y = blobs()
    torch.manual_seed(0)
    repurposer = LrRepurposer(Untraceable(), c=1.0).repurpose(X, y)
    assert repurposer.feature_layer_names_ == ["body"]
    assert repurposer.n_features_in_ == 6


def test_it_is_saved_and_loaded_as_none(tmp_path: Any) -> None:
    X, y = blobs()
    network = small_network()
    repurposer = LrRepurposer(network, c=1.0).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", network)
    assert (loaded.feature_layer_names, loaded.feature_layer_names_) == (None, ["3"])
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_a_search_can_try_it_beside_others() -> None:
    X, y = blobs()
    search = GridSearchCV(LrRepurposer(small_network(), c=1.0), {"feature_layer_names": [None, ["0"]]}, cv=2)
    search.fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert search.best_estimator_.feature_layer_names in (None, ["0"])


def test_of_features_all_layers_are_taken_without_asking_the_network() -> None:
    X, y = blobs()
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU())  # it has no default layer
    features = Features({"1": X, "0": X[:, :2]}, y)
    repurposer = LrRepurposer(network, c=1.0).repurpose(features)
    assert repurposer.feature_layer_names_ == ["1", "0"]
    assert repurposer.predict_label(features).shape == y.shape
    # From then on the layers that the head knows are the ones to extract.
    assert repurposer.get_features_from_source_model(X).layer_names == ["1", "0"]
    other = (
        LrRepurposer(small_network(), c=1.0)
        .repurpose(Features({"0": X}, y))
        .set_params(source_model=small_network(seed=1))
    )
    assert other.get_features_from_source_model(X).layer_names == ["3"]


def test_the_class_of_a_user_goes_on_requiring_layers_where_its_signature_does() -> None:
    with pytest.raises(TypeError, match="feature_layer_names"):
        KnnRepurposer(small_network())  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"must be a list of layer names such as .*, got None"):
        KnnRepurposer(small_network(), None).repurpose(blob_features())
    X, y = blobs()
    assert CentroidRepurposer(small_network()).repurpose(X, y).feature_layer_names_ == ["3"]
