"""Features of simulated rows, in memory and in shards on a disk."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from model_handler import Features, ModelHandler, ShardedFeatures
from repurpose.meta_model.sharded import interface

N_ROWS, N_TEST = 600, 300
NETWORK = nn.Sequential(nn.Identity(), nn.Identity())


def simulated(n_classes: int = 3, seed: int = 0) -> tuple[Features, Features]:
    """Rows of overlapping classes in two layers of different scale, 600 to learn from and 300 others."""
    rng = np.random.RandomState(seed)
    centres, y = rng.standard_normal((n_classes, 8)), rng.randint(n_classes, size=N_ROWS + N_TEST)
    X = (centres[y] + 1.2 * rng.standard_normal((len(y), 8))).astype(np.float32)
    both = Features({"0": X, "1": 5 * X[:, :3] + 2}, y)
    return both[:N_ROWS], both[N_ROWS:]


class InShards:
    """Features read in parts, as `ShardedFeatures` are."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.layer_names, self.labels, self.class_names = features.layer_names, features.labels, features.class_names
        self.n_passes = 0

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: object) -> Features:
        return self.features[rows]

    def blocks(self, n_rows: int):
        self.n_passes += 1
        for start in range(0, len(self), n_rows):
            yield self.features[start : start + n_rows]


def on_disk(features: Features, folder: Path) -> ShardedFeatures:
    """Write the first layer of some features to shards of 100 rows."""
    return ModelHandler(NETWORK).extract_to(folder, (features.values["0"], features.labels), ["0"], rows_per_shard=100)


def few_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no more than 200 rows fit into memory, and 150 be kept."""
    monkeypatch.setattr(interface, "N_IN_MEMORY", 200)
    monkeypatch.setattr(interface, "N_KEPT", 150)
    monkeypatch.setattr("repurpose.meta_model.sharded.blocks._ELEMENTS", 1000)  # 90 rows a block


def log_loss(probabilities: np.ndarray, codes: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(codes)), codes]).mean())
