"""Networks, data and Repurposers that the tests of this folder share."""

from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neighbors import NearestCentroid as Centroids
from torch import nn

from model_handler import Features
from repurpose import LrRepurposer, MetaModelRepurposer


class KnnRepurposer(MetaModelRepurposer):
    """The user's own meta-model of the design notes, word for word."""

    def __init__(self, source_model, feature_layer_names, n_neighbors=5, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.n_neighbors = n_neighbors

    def _train_model_from_features(self, features, labels, feature_indices_per_layer):  # type: ignore[no-untyped-def]
        return KNeighborsClassifier(self.n_neighbors).fit(features, labels)

    def _predict_probability_from_features(self, features):  # type: ignore[no-untyped-def]
        return self.target_model.predict_proba(features)


class CentroidRepurposer(MetaModelRepurposer):
    """A meta-model that knows labels and no probabilities."""

    def _train_model_from_features(self, features, labels, feature_indices_per_layer):  # type: ignore[no-untyped-def]
        return Centroids().fit(features, labels)

    def _predict_label_from_features(self, features):  # type: ignore[no-untyped-def]
        return self.target_model.predict(features)


class DrawingRepurposer(LrRepurposer):
    """Logistic regression that knows a posterior: its coefficients, each with a standard deviation of `width`."""

    def __init__(self, source_model: Any, feature_layer_names: Any, width: float = 0.1, **kwargs: Any) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.width = width

    def _predict_samples_from_features(self, features: Any, n_samples: int, random_state: Any) -> np.ndarray:
        coefficients = self.target_model_.coef_
        draws = coefficients + self.width * random_state.normal(size=(n_samples, *coefficients.shape))
        return softmax(features @ draws.transpose(0, 2, 1) + self.target_model_.intercept_, axis=2)

    def _predict_variance_from_features(self, features: Any) -> np.ndarray:
        return self.width**2 * (features.astype(np.float64) ** 2).sum(axis=1)


def identity_network() -> nn.Module:
    """Gives back what it gets, as the features of layer "0"."""
    return nn.Sequential(nn.Identity())


def small_network(seed: int = 0) -> nn.Module:
    """Three linear layers of 4 -> 6 -> 5 -> 3, with layers "0" to "4"."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def blobs(n_samples: int = 60, n_features: int = 4, n_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of points: float32 (n_samples, n_features) and int labels (n_samples,)."""
    X, y = make_blobs(n_samples, n_features, centers=n_classes, cluster_std=4.0, random_state=seed)
    return X.astype(np.float32), y


def blob_features(**options: int) -> Features:
    """The same as features of layer "0"."""
    X, y = blobs(**options)
    return Features({"0": X}, y)


def lr(**options: Any) -> LrRepurposer:
    """A quick logistic regression on layer "0" of the identity."""
    return LrRepurposer(identity_network(), ["0"], **{"c": 1.0, **options})


def repeated(n_samples: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Blobs of three classes, whole weights from 0 to 3, and the index of each row as often as its weight says."""
    X, y = blobs(n_samples=n_samples, seed=seed)
    weights = np.random.RandomState(seed).randint(0, 4, size=n_samples)
    return X, y, weights, np.repeat(np.arange(n_samples), weights)
