"""A head of a moment, networks that count, and data, for tests of tuning."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import make_blobs
from torch import Tensor, nn

from repurpose import MetaModelRepurposer

N_ROWS = 40


class CentreRepurposer(MetaModelRepurposer):
    """The nearer the mean of a class, the likelier it is; `sharpness` says by how much."""

    n_trainings = 0

    def __init__(
        self,
        source_model: nn.Module,
        feature_layer_names: list[str] | None = None,
        sharpness: float = 1.0,
        **kwargs: object,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.sharpness = sharpness

    def _train_model_from_features(
        self, features: np.ndarray, labels: np.ndarray, feature_indices_per_layer: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        CentreRepurposer.n_trainings += 1
        if self.sharpness > 50:
            raise ValueError(f"sharpness {self.sharpness:.0f} cuts")
        return np.stack([features[labels == code].mean(axis=0) for code in np.unique(labels)])

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        distances = ((features[:, None] - self.target_model_[None]) ** 2).sum(axis=2)
        return torch.from_numpy(-self.sharpness * distances).softmax(dim=1).numpy()


class Counted(nn.Module):
    """Gives back what it gets, and notes of how many rows; it has no layers inside, so that no tracer looks into it."""

    calls: ClassVar[list[int]] = []  # of the class, since networks are copied

    def forward(self, rows: Tensor) -> Tensor:
        Counted.calls.append(len(rows))
        return rows


def counting_network() -> tuple[nn.Sequential, list[int]]:
    """A small convolutional network, and the list of its calls, each by how many rows it was of."""
    Counted.calls.clear()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [("counted", Counted()), ("conv", nn.Conv2d(1, 4, 3)), ("relu", nn.ReLU()), ("flat", nn.Flatten())]
        return nn.Sequential(OrderedDict([*parts, ("head", nn.Linear(36, 2))])), Counted.calls


def images() -> tuple[np.ndarray, np.ndarray]:
    """Rows of (1, 5, 5) in two classes that overlap, and their labels."""
    rows, labels = make_blobs(N_ROWS, n_features=25, centers=2, cluster_std=12.0, random_state=0)
    return rows.reshape(-1, 1, 5, 5).astype(np.float32) / 10, labels


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Rows of two numbers in three classes that overlap, and their labels."""
    rows, labels = make_blobs(N_ROWS, cluster_std=4.0, random_state=8)
    return rows.astype(np.float32), np.array(["ant", "bee", "cat"])[labels]


def small_network() -> nn.Sequential:
    """A network of two layers, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
