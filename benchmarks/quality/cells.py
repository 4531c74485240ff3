"""One cell of the comparison: a method trained on one split, and what its answers are worth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.quality.heads import ENTROPY, MAHALANOBIS, METHODS, MUTUAL, NEAREST, PROBABILITY, VARIANCE
from benchmarks.quality.images import Split, split_of
from model_handler import Features
from repurpose import MetaModelRepurposer
from repurpose.uncertainty.decomposition import entropy

__all__ = ["ALL", "MEASURES", "SECONDS", "Cell", "Result", "auroc_name", "examine"]

ALL = 0  # labels a class: every image that is not tested on
MEASURES = {"accuracy": "accuracy", "log_loss": "log loss", "ece": "ECE", "brier": "Brier", "aurc": "AURC"}
SECONDS = "seconds"  # of training, on one thread
_DETECTORS = {NEAREST: "knn", MAHALANOBIS: "mahalanobis"}


@dataclass(frozen=True)
class Cell:
    """A method, by its title, on a split: `n_labels` of each class, 0 for all that there are."""

    task: str
    n_labels: int
    seed: int
    method: str


@dataclass(frozen=True)
class Result:
    """What was measured in a cell, by name: `MEASURES`, `SECONDS`, and areas under the ROC curve by `auroc_name`."""

    cell: Cell
    measures: Mapping[str, float]


def auroc_name(unfamiliar: str, score: str) -> str:
    """The name of the area under the ROC curve of a score, for the named set of unfamiliar inputs."""
    return f"AUROC, {unfamiliar}, {score}"


def examine(cell: Cell, features: Mapping[str, Features]) -> Result:
    """Train and measure; with few labels a second time without some classes, for the hardest unfamiliar inputs."""
    method = next(method for method in METHODS if method.title == cell.method)
    split = split_of(features, cell.task, cell.n_labels, cell.seed)
    start = time.perf_counter()
    repurposer = method.train(split.train, cell.seed)
    seconds = time.perf_counter() - start
    evaluation = repurposer.evaluate(split.test, coverage=None, n_bootstrap=1)
    measures = {name: getattr(evaluation, name) for name in MEASURES}
    measures |= {SECONDS: seconds} | _aurocs(repurposer, split, method.scores)
    if cell.n_labels == ALL:
        return Result(cell, measures)
    hard = split.without_classes(cell.seed)
    return Result(cell, measures | _aurocs(method.train(hard.train, cell.seed), hard, method.scores))


def _aurocs(repurposer: MetaModelRepurposer, split: Split, scores: Sequence[str]) -> dict[str, float]:
    familiar = _scores(repurposer, split.test, scores)
    return {
        auroc_name(name, score): _auroc(familiar[score], strange)
        for name, features in split.unfamiliar.items()
        for score, strange in _scores(repurposer, features, scores).items()
    }


def _scores(repurposer: MetaModelRepurposer, features: Features, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The scores that are wanted, larger is stranger: (n_samples,)."""
    probabilities = repurposer.predict_probability(features)
    scores = {PROBABILITY: -probabilities.max(axis=1), ENTROPY: entropy(probabilities)}
    for score, method in _DETECTORS.items():
        if score in wanted:
            scores[score] = repurposer.unfamiliarity(features, method=method)
    if {MUTUAL, VARIANCE} & set(wanted):
        doubt = repurposer.predict_uncertainty(features)
        scores |= {MUTUAL: doubt.epistemic, VARIANCE: doubt.variance}
    return {name: scores[name] for name in wanted}


def _auroc(familiar: np.ndarray, strange: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(familiar), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([familiar, strange])))
