"""A pool is asked for its probabilities in parts, so that its features may lie in a file larger than the memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import entr

from model_handler import Features
from model_handler.missing_values import is_missing
from repurpose.data.feature_rows import check_rows
from repurpose.labelling.suggesting.checks import check_fits
from repurpose.seeding import RandomState

__all__ = ["Judged", "Suggesting", "judge", "part_of", "rows_without_label"]

_ROWS_AT_A_TIME = 2**14


class Suggesting(Protocol):
    """What suggestions need of a trained Repurposer."""

    classes_: np.ndarray
    random_state: RandomState

    def features_to_judge(self, data: object) -> Features: ...

    def _predict_probabilities(self, data: object) -> np.ndarray: ...

    def _predict_codes(self, data: object) -> tuple[np.ndarray, object]: ...


@dataclass(frozen=True, eq=False)
class Judged:
    """What a head says of rows without a label: the `margin` (n_rows,) between the two likeliest classes, and more.

    `rows` (n_rows,) are their positions in the pool, `likeliest` (n_rows,) the codes of their likeliest classes, and
    `entropies` (n_rows,) those of their probabilities, in nats: the log loss that the head expects of itself.
    """

    rows: np.ndarray
    margin: np.ndarray
    likeliest: np.ndarray
    entropies: np.ndarray


def rows_without_label(features: Features, n: int) -> np.ndarray:
    """Return the positions of rows to suggest from: all of a pool without labels, else those whose label is missing.

    Raises ValueError for an empty pool, one where every row has a label, and fewer rows than `n`.
    """
    if len(features) == 0:
        raise ValueError("the pool is empty; give rows without a label to choose from")
    if features.labels is None:
        rows = np.arange(len(features))
    else:
        rows = np.flatnonzero([is_missing(label) for label in features.labels.tolist()])
    if len(rows) == 0:
        raise ValueError(
            f"all {len(features)} rows of the pool have a label already; give rows without: X of a pair (X, y), the "
            "paths of images, or None or NaN in place of labels that are missing"
        )
    check_fits(n, len(rows), "rows" if features.labels is None else "rows without a label")
    return rows


def part_of(features: Features, rows: np.ndarray | slice) -> Features:
    """Return some rows without labels, as a Features of the same kind."""
    values: Mapping[str, np.ndarray] = {name: array[rows] for name, array in features.values.items()}
    return replace(features, values=values, labels=None)


def judge(repurposer: Suggesting, features: Features, rows: np.ndarray) -> Judged:
    """Ask a head about the rows of a pool. Raises ValueError for NaN and infinite values, naming the rows."""
    margins, likeliest, entropies = [], [], []
    for part in _parts(features, rows):
        probabilities = repurposer._predict_probabilities(part)
        sorted_ones = np.sort(probabilities, axis=1)
        margins.append(sorted_ones[:, -1] - sorted_ones[:, -2] if probabilities.shape[1] > 1 else sorted_ones[:, -1])
        likeliest.append(probabilities.argmax(axis=1))
        entropies.append(entr(probabilities).sum(axis=1))
    return Judged(rows, np.concatenate(margins), np.concatenate(likeliest), np.concatenate(entropies))


def _parts(features: Features, rows: np.ndarray) -> Iterator[Features]:
    check_rows(features)
    is_whole = len(rows) == len(features)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        end = start + _ROWS_AT_A_TIME
        yield part_of(features, slice(start, end) if is_whole else rows[start:end])
