"""The methods that are compared: heads with their defaults, and the scores by which each finds unfamiliar inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.tasks import LAYER
from model_handler import Features
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    SvmRepurposer,
)

__all__ = [
    "BASELINE",
    "DEFAULTS",
    "ENTROPY",
    "MAHALANOBIS",
    "METHODS",
    "MIXED",
    "MUTUAL",
    "NEAREST",
    "PROBABILITY",
    "TUNED",
    "VARIANCE",
    "Method",
]

PROBABILITY, ENTROPY = "maximum probability", "entropy"
MUTUAL, VARIANCE = "mutual information", "variance"
NEAREST, MAHALANOBIS, MIXED = "nearest training row", "Mahalanobis distance", "mixed Mahalanobis distance"


class RawLrRepurposer(MetaModelRepurposer):
    """The simplest baseline: scikit-learn's logistic regression with C = 1 on the features as they are."""

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray, *args: Any) -> LogisticRegression:
        return LogisticRegression(C=1.0, max_iter=5000).fit(features, labels)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model.predict_proba(features)


@dataclass(frozen=True)
class Method:
    """A head and how it is used.

    Attributes
    ----------
    title : str
        Its name in the report.
    head : type
    scores : tuple of str
        By which it tells unfamiliar inputs; the first is its own, the others stand beside it in the report.
    layers : list of str or "auto"
    parameters : mapping
        Where they are not the defaults.
    calibrated : bool
        Whether `calibrate` follows, on the training rows.
    with_all : bool
        Whether it is measured with all labels too, where training takes long.
    """

    title: str
    head: type[MetaModelRepurposer]
    scores: tuple[str, ...]
    layers: list[str] | str = field(default_factory=lambda: [LAYER])
    parameters: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False
    with_all: bool = False

    def train(self, features: Features, seed: int) -> MetaModelRepurposer:
        """The trained repurposer."""
        repurposer = self.head(nn.Identity(), self.layers, random_state=seed, **self.parameters).repurpose(features)
        return repurposer.calibrate() if self.calibrated else repurposer


BASELINE, TUNED = "raw LR", "tuned LR"
METHODS = (
    Method(BASELINE, RawLrRepurposer, (PROBABILITY, NEAREST, MAHALANOBIS, MIXED), with_all=True),
    Method("LR, C = 1", LrRepurposer, (PROBABILITY,), parameters={"c": 1.0}, with_all=True),
    Method(TUNED, LrRepurposer, (PROBABILITY,), with_all=True),
    Method("tuned LR, chosen layers", LrRepurposer, (PROBABILITY,), layers="auto"),
    Method("tuned LR + temperature", LrRepurposer, (PROBABILITY,), calibrated=True),
    Method("SVM", SvmRepurposer, (ENTROPY,), with_all=True),
    Method("GP", GpRepurposer, (VARIANCE, MUTUAL, PROBABILITY), with_all=True),
    Method("GP, chosen layers", GpRepurposer, (VARIANCE, MUTUAL), layers="auto"),
    Method("Laplace", LaplaceRepurposer, (MUTUAL, VARIANCE, PROBABILITY)),
    Method("BNN", BnnRepurposer, (ENTROPY, MUTUAL), with_all=True),
)
# What a user gets who says nothing, or asks for layers alone.
DEFAULTS = (TUNED, "tuned LR, chosen layers", "SVM", "GP", "GP, chosen layers", "Laplace", "BNN")
