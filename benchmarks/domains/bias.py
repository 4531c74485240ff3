"""Bias: tumours of scikit-learn's breast_cancer, of which the source has mostly small ones, by a known function.

Half of the rows are the target, without labels. Of the other half a row is kept for the source with the probability
.05 + .95 / (1 + exp(2 z)), where z is its place on the first principal axis of the standardised columns, in standard
deviations; the true weight of a row is one over its probability. The label of a row is what it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer
from torch import nn

from benchmarks.adapters.cells import Cell
from model_handler import Features
from repurpose import LrRepurposer, MetaModelRepurposer
from repurpose.domain import DomainRepurposer, ImportanceWeightedRepurposer
from repurpose.domain.distributions.domain_classifier import effective_sample_size
from repurpose.domain.distributions.kernels import median_width, squared_mmd
from repurpose.domain.distributions.standardization import Standardization

__all__ = [
    "ACCURACY",
    "CORRELATION",
    "COVERAGE",
    "COVERED",
    "ESTIMATED",
    "EXACT",
    "KEPT",
    "LABELS",
    "LOSS",
    "NAME",
    "N_SEEDS",
    "SIZE",
    "TRUE",
    "UNWEIGHTED",
    "Draw",
    "draw",
    "examine",
    "kinds",
    "missing",
]

NAME, N_SEEDS = "bias", 30
UNWEIGHTED, TRUE, EXACT = "unweighted", "true weights", "kmm, no regularization"
ESTIMATED = ("kmm", "kliep", "classifier")
ACCURACY, LOSS, KEPT = "accuracy", "log loss", "MMD^2, after to before"
CORRELATION, SIZE = "rank correlation with the true weights", "effective share of the rows"
COVERAGE, COVERED, LABELS = 0.95, "covered", "labels in a set"
_NETWORK, _LAYER = nn.Sequential(nn.Identity()), "columns"


@dataclass(frozen=True, eq=False)
class Draw:
    """The biased source with its true weights (n_source,), 1 on average, and the target, each with its labels."""

    source: Features
    true_weights: np.ndarray
    target: Features


def missing() -> str:
    """Say that nothing is."""
    return ""


def kinds() -> list[tuple[str, str]]:
    """List what is compared."""
    return [(NAME, kind) for kind in (UNWEIGHTED, *ESTIMATED, EXACT, TRUE)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on the source, weighted or not, and measure on the target."""
    drawn = draw(cell.seed)
    trained, weights = _train(cell.kind, drawn, cell.seed)
    of_truth = np.arange(len(drawn.target)), drawn.target.labels
    right = trained.predict_probability(drawn.target)[of_truth]
    found = {
        ACCURACY: float(trained.score(drawn.target, drawn.target.labels)),
        LOSS: float(-np.log(np.maximum(right, 1e-12)).mean()),
        KEPT: _distance(drawn, weights) / _distance(drawn, np.ones(len(weights))),
        CORRELATION: 0.0 if cell.kind == UNWEIGHTED else float(spearmanr(weights, drawn.true_weights).statistic),
        SIZE: effective_sample_size(weights) / len(weights),
    }
    if cell.kind == TRUE:
        return found  # a ratio at rows of the source alone makes no sets for others
    if cell.kind == UNWEIGHTED:  # a method for two domains promises nothing then; what knows of no other domain does
        trained = LrRepurposer(_NETWORK, [_LAYER], random_state=cell.seed, verbose=False).repurpose(drawn.source)
    members = trained.predict_set(Features(drawn.target.values), COVERAGE).members
    return found | {COVERED: float(members[of_truth].mean()), LABELS: float(members.sum(axis=1).mean())}


def draw(seed: int) -> Draw:
    """Draw the target and the biased source."""
    columns, labels, probabilities = _rows()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    target, others = order[: len(order) // 2], order[len(order) // 2 :]
    source = others[rng.random(len(others)) < probabilities[others]]
    weights = 1 / probabilities[source]
    return Draw(
        Features({_LAYER: columns[source]}, labels[source]),
        weights / weights.mean(),
        Features({_LAYER: columns[target]}, labels[target]),
    )


@cache
def _rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the columns, the labels, and the probability with which the source keeps a row."""
    data = load_breast_cancer()
    standardized = Standardization.of(data.data).apply(data.data)
    places = standardized @ np.linalg.svd(standardized, full_matrices=False)[2][0]
    places *= np.sign(places @ standardized[:, 0]) / places.std()  # large tumours have large ones
    return data.data.astype(np.float32), data.target, 0.05 + 0.95 * expit(-2 * places)


def _train(kind: str, drawn: Draw, seed: int) -> tuple[MetaModelRepurposer, np.ndarray]:
    options = {"random_state": seed, "verbose": False}
    unlabelled = Features(drawn.target.values)
    if kind == TRUE:
        head = LrRepurposer(_NETWORK, [_LAYER], **options)
        return head.repurpose(drawn.source, sample_weight=drawn.true_weights), drawn.true_weights
    if kind == UNWEIGHTED:
        plain = DomainRepurposer(_NETWORK, [_LAYER], **options)
        return plain.repurpose(unlabelled, source_data=drawn.source), np.ones(len(drawn.source))
    method, regularization = ("kmm", 0.0) if kind == EXACT else (kind, 1.0)
    weighted = ImportanceWeightedRepurposer(_NETWORK, [_LAYER], method=method, regularization=regularization, **options)
    weighted.repurpose(unlabelled, source_data=drawn.source)
    return weighted, weighted.importance_weights_


def _distance(drawn: Draw, weights: np.ndarray) -> float:
    """Return the squared MMD of the domains, in columns standardised over both, at the median width."""
    both = np.concatenate([drawn.source.matrix, drawn.target.matrix])
    rows = Standardization.of(both).apply(both)
    source, target = rows[: len(drawn.source)], rows[len(drawn.source) :]
    return squared_mmd(source, target, median_width(rows), weights)
