"""Saved things that are attacked: one repurposer of each kind, and the features of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_handler import Features
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    NeuralNetworkFineTuneRepurposer,
    SvmRepurposer,
    load,
)


class NeighboursRepurposer(MetaModelRepurposer):
    """A user's head that is an estimator of scikit-learn, so that a skops file is attacked too."""

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray, layers: Any) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(3).fit(features, labels)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict_proba(features)


@dataclass(frozen=True)
class Target:
    """Something saved: where, how it is loaded and asked, and what it answered."""

    name: str
    path: Path
    answers: Callable[[Path], list[bytes]]
    expected: list[bytes]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def rows() -> tuple[np.ndarray, np.ndarray]:
    codes = np.arange(24) % 3
    made = np.random.default_rng(0).normal(size=(24, 4)) + 2 * codes[:, None]
    return made.astype(np.float32), np.array(["apple", "fig", "pear"])[codes]


def answers(path: Path) -> list[bytes]:
    """The bytes of everything that a saved repurposer says of some rows."""
    repurposer = load(path, network())
    X, _ = rows()
    said = [repurposer.predict_label(X[:5]), repurposer.predict_probability(X[:5])]
    if hasattr(repurposer, "training_features_"):
        said += [repurposer.unfamiliarity(X[:5]), repurposer.predict_set(X[:5], 0.8).members]
    return [np.ascontiguousarray(array).tobytes() for array in said]


def answers_of_features(path: Path) -> list[bytes]:
    features = Features.load(path)
    return [features.matrix.tobytes(), repr(features.labels.tolist()).encode(), repr(features.layer_names).encode()]


def targets(folder: Path) -> list[Target]:
    """One of each kind, saved."""
    common: dict[str, Any] = {"random_state": 0, "verbose": False, "device": "cpu"}
    on_layer = {"source_model": network(), "feature_layer_names": ["1"], **common}
    X, y = rows()
    made: dict[str, Any] = {
        "lr": LrRepurposer(**on_layer, c=1.0),
        "svm": SvmRepurposer(**on_layer),
        "gp": GpRepurposer(**on_layer),
        "laplace": LaplaceRepurposer(**on_layer, c=1.0),
        "bnn": BnnRepurposer(**on_layer, c=1.0, num_epochs=2, num_samples_mc_prediction=4, n_hidden=3),
        "neighbours": NeighboursRepurposer(**on_layer),
        "fine-tuned": NeuralNetworkFineTuneRepurposer(network(), "1", num_epochs=1, **common),
    }
    found = []
    for name, repurposer in made.items():
        repurposer.repurpose(X, y)
        if name not in ("fine-tuned",):
            repurposer.predict_set(X[:2], 0.8)  # makes the folds, which are saved too
        repurposer.save_repurposer(folder / name)
        found.append(Target(name, folder / name, answers, answers(folder / name)))
    Features({"a": X, "b": X[:, :2]}, y).save(folder / "features.safetensors")
    path = folder / "features.safetensors"
    return [*found, Target("features", path, answers_of_features, answers_of_features(path))]
