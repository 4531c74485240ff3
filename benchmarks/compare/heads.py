"""Heads: every Repurposer that learns from features, with and without weights of rows, and one of a user's own."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.compare.questions import COMMON, NEW, TRAIN, WEIGHTS, ask_and_save, network
from benchmarks.compare.results import Results
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    SvmRepurposer,
)

__all__ = ["NeighboursRepurposer", "collect"]

_LAYER = ["flatten"]
_FEW_STEPS = {"n_hidden": 4, "num_epochs": 6, "num_samples_mc_prediction": 8}


class NeighboursRepurposer(MetaModelRepurposer):
    """A user's own meta-model."""

    def __init__(self, source_model: Any, feature_layer_names: Any = None, n_neighbors: int = 5, **kwargs: Any) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.n_neighbors = n_neighbors

    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> Any:
        return KNeighborsClassifier(self.n_neighbors).fit(features, labels)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict_proba(features)


_HEADS: dict[str, tuple[type[MetaModelRepurposer], dict[str, Any]]] = {
    "lr": (LrRepurposer, {"feature_layer_names": _LAYER}),
    "lr, layers chosen": (LrRepurposer, {"feature_layer_names": "auto"}),
    "lr, balanced, two layers": (
        LrRepurposer,
        {"feature_layer_names": ["relu1", "relu2"], "c": 0.5, "class_weight": "balanced", "pooling": "max"},
    ),
    "svm": (SvmRepurposer, {"feature_layer_names": _LAYER}),
    "svm, rbf": (SvmRepurposer, {"feature_layer_names": ["relu2"], "kernel": "rbf"}),
    "gp, two layers": (GpRepurposer, {"feature_layer_names": ["relu1", "flatten"]}),
    "gp, inducing": (GpRepurposer, {"feature_layer_names": _LAYER, "n_inducing": 12}),
    "gp, variational": (GpRepurposer, {"feature_layer_names": _LAYER, "n_inducing": 8, "svgp": True}),
    "laplace": (LaplaceRepurposer, {"feature_layer_names": _LAYER}),
    "laplace, without a seed": (LaplaceRepurposer, {"feature_layer_names": _LAYER, "random_state": None}),
    "bnn": (BnnRepurposer, {"feature_layer_names": _LAYER, **_FEW_STEPS}),
    "own": (NeighboursRepurposer, {"n_neighbors": 3}),
}
_TAKES_NO_WEIGHTS = ("own",)


def collect(results: Results, folder: Path) -> None:
    """Of each head, without and with weights: features, layers that were chosen, and all answers."""
    for name, (kind, options) in _HEADS.items():
        plain = kind(network(), **{**COMMON, **options})
        _learned(results.under(name), plain.repurpose(*TRAIN), folder)
        if name not in _TAKES_NO_WEIGHTS:
            weighted = kind(network(), **{**COMMON, **options}).fit(*TRAIN, sample_weight=WEIGHTS)
            _learned(results.under(f"{name}, weighted"), weighted, folder)


def _learned(results: Results, repurposer: MetaModelRepurposer, folder: Path) -> None:
    results.add("features", repurposer.get_features_from_source_model(NEW[0]).matrix)
    results.add("layers", repr((repurposer.feature_layer_names_, getattr(repurposer, "layer_scores_", None))))
    ask_and_save(results, repurposer, folder)
