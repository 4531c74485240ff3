"""Ways to choose the next rows to label: the library's, and what a user would pick instead.

Each takes the head that was trained on the labelled rows, the features of the whole pool, the positions of the labelled
rows, how many to choose, and what draws at random; it returns positions.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from model_handler import Features
from repurpose import GpRepurposer
from repurpose.labelling.suggesting.clusters import cluster, directions, scaling_of

__all__ = ["AUTO", "BADGE", "RANDOM", "TYPICALITY", "WAYS", "Choose", "by_library"]

Choose = Callable[[GpRepurposer, Features, np.ndarray, int, np.random.RandomState], np.ndarray]

RANDOM, AUTO, TYPICALITY, BADGE = "random", "auto (doubt)", "typicality (TypiClust)", "BADGE"


def by_library(
    method: str, head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState
) -> np.ndarray:
    """Ask `suggest_labels`."""
    rest = _others(pool, labelled)
    return rest[np.array(head.suggest_labels(pool[rest], n, method)["position"])]


def _at_random(
    head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState
) -> np.ndarray:
    return rng.permutation(_others(pool, labelled))[:n]


def _least_margin(
    head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState
) -> np.ndarray:
    """The rows of smallest margin, whether they are alike or not."""
    rest = _others(pool, labelled)
    return rest[np.argsort(_margins(head.predict_probability(pool[rest])), kind="stable")[:n]]


def _badge(head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState) -> np.ndarray:
    """BADGE (Ash et al. 2020): the starts of k-means++ among gradients of the last layer at the likeliest labels.

    A gradient is an outer product of (probabilities less the likeliest label) and the row, so that distances need no
    more than the inner products of both.
    """
    rest = _others(pool, labelled)
    gradients, rows = head.predict_probability(pool[rest]), _rows(pool[rest])
    gradients[np.arange(len(rest)), gradients.argmax(axis=1)] -= 1
    norms = (gradients**2).sum(axis=1) * (rows**2).sum(axis=1)
    chosen, squares = [int(norms.argmax())], np.full(len(rest), np.inf)
    while len(chosen) < n:
        last = chosen[-1]
        inner = (gradients @ gradients[last]) * (rows @ rows[last])
        squares = np.minimum(squares, np.maximum(norms + norms[last] - 2 * inner, 0))
        squares[chosen] = 0
        chosen.append(int(rng.choice(len(rest), p=squares / squares.sum())))
    return rest[chosen]


def _doubtful_clusters(
    head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState
) -> np.ndarray:
    """The medoids of clusters of the whole pool, where doubtful rows count more (CLUE: Prabhu et al. 2021)."""
    rest = _others(pool, labelled)
    rows, doubt = _rows(pool[rest]), np.maximum(1 - _margins(head.predict_probability(pool[rest])), 1e-6)
    return rest[cluster(rows, n, rng, doubt**2).medoids(rows)]


def _typical_then_margin(
    head: GpRepurposer, pool: Features, labelled: np.ndarray, n: int, rng: np.random.RandomState
) -> np.ndarray:
    return by_library("typicality" if len(labelled) < 30 else "margin", head, pool, labelled, n, rng)


def _others(pool: Features, labelled: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(len(pool)), labelled)


def _margins(probabilities: np.ndarray) -> np.ndarray:
    likeliest = np.sort(probabilities, axis=1)[:, -2:]
    return likeliest[:, 1] - likeliest[:, 0]


def _rows(features: Features) -> np.ndarray:
    return directions(scaling_of(features.matrix, features.indices_per_layer), features.matrix)


WAYS: dict[str, Choose] = {
    RANDOM: _at_random,
    AUTO: partial(by_library, "auto"),
    "margin": partial(by_library, "margin"),
    "epig": partial(by_library, "epig"),
    "variance": partial(by_library, "variance"),
    TYPICALITY: partial(by_library, "typicality"),
    BADGE: _badge,
    "least margin, alike or not": _least_margin,
    "clusters weighted by doubt": _doubtful_clusters,
    "typicality up to 30, then margin": _typical_then_margin,
}
