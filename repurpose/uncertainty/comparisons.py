"""Which rows a new row is compared with: those given to `conformalize`, or training rows out of their folds.

The head of a fold and the detector of a fold saw neither the rows that were held out nor the new one, so that both are
judged alike.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from repurpose.threads import threads_for
from repurpose.uncertainty.conformal import Comparison
from repurpose.uncertainty.defaults import default_of
from repurpose.uncertainty.out_of_fold import fold_heads, folds_of, training_features, training_weights
from repurpose.uncertainty.prediction_sets import strangeness_of_labels
from repurpose.uncertainty.unfamiliarity import DETECTORS, Detector, energy

__all__ = ["METHODS", "compare_labels", "compare_unfamiliarity", "out_of_fold_probabilities", "unfamiliarity_of"]

METHODS = (*DETECTORS, "energy", "variance")


def unfamiliarity_of(repurposer: Any, matrix: np.ndarray, method: str) -> np.ndarray:
    """How strange rows (n_samples, n_features) are to the head, or to its training rows: (n_samples,)."""
    if method in DETECTORS:
        return _score(_detector(repurposer, method, None), repurposer, matrix)
    return _by_head(repurposer, matrix, method)


def compare_unfamiliarity(repurposer: Any, matrix: np.ndarray, method: str) -> Iterator[Comparison]:
    """How strange the rows of the matrix are, beside rows that are known to be familiar."""
    if _has_rows_of_its_own(repurposer):
        reference = unfamiliarity_of(repurposer, repurposer.conformal_features_, method)
        yield Comparison(reference, unfamiliarity_of(repurposer, matrix, method))
    elif method in DETECTORS:
        folds = folds_of(repurposer)
        for fold in range(folds.max() + 1):
            detector = _detector(repurposer, method, fold)
            held_out = folds == fold
            reference = _score(detector, repurposer, repurposer.training_features_[held_out])
            strangeness = _score(detector, repurposer, matrix)
            yield Comparison(reference, strangeness, training_weights(repurposer, held_out))
    else:
        for each in fold_heads(repurposer):
            held_out = repurposer.training_features_[each.held_out]
            weights = training_weights(repurposer, each.held_out)
            yield Comparison(_by_head(each.head, held_out, method), _by_head(each.head, matrix, method), weights)


def compare_labels(repurposer: Any, matrix: np.ndarray, score: str) -> Iterator[Comparison]:
    """How strange each label would be for each row, (n_samples, n_classes), beside true labels of other rows."""

    rank_cost = default_of(repurposer, "rank_cost_")

    def compare(head: Any, rows: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None) -> Comparison:
        known, new = (
            strangeness_of_labels(repurposer._calibrated(head._checked_probabilities(each)), score, rank_cost)
            for each in (rows, matrix)
        )
        return Comparison(known[np.arange(len(codes)), codes], new, weights)

    if _has_rows_of_its_own(repurposer):
        yield compare(repurposer, repurposer.conformal_features_, repurposer.conformal_codes_)
    else:
        for fold in fold_heads(repurposer):
            rows, codes = repurposer.training_features_[fold.held_out], repurposer.training_codes_[fold.held_out]
            yield compare(fold.head, rows, codes, training_weights(repurposer, fold.held_out))


def out_of_fold_probabilities(repurposer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Probabilities (n_rows, n_classes) of the training rows that were ever held out, and their codes and weights.

    Each is by the head that was trained without its fold, not calibrated.
    """
    folds = list(fold_heads(repurposer))
    rows = [fold.head._checked_probabilities(repurposer.training_features_[fold.held_out]) for fold in folds]
    order = np.concatenate([fold.held_out for fold in folds])
    return np.concatenate(rows), repurposer.training_codes_[order], training_weights(repurposer, order)


def _has_rows_of_its_own(repurposer: Any) -> bool:
    return hasattr(repurposer, "conformal_features_")


def _by_head(head: Any, matrix: np.ndarray, method: str) -> np.ndarray:
    if method == "energy":
        return energy(head._checked_probabilities(matrix))
    return head._checked_variances(matrix)


def _detector(repurposer: Any, method: str, fold: int | None) -> Detector:
    """The detector fitted to all training rows, or to those outside a fold; kept while the rows are the same."""
    features = training_features(repurposer)
    made_of, detectors = vars(repurposer).get("_cached_detectors", (None, {}))
    if made_of is not repurposer.training_features_:
        detectors = {}
        repurposer._cached_detectors = (repurposer.training_features_, detectors)
    if (method, fold) not in detectors:
        rows, codes = repurposer.training_features_, repurposer.training_codes_
        seen: Any = slice(None)
        if fold is not None:
            seen = folds_of(repurposer) != fold
        weights = training_weights(repurposer, seen)
        with threads_for(len(rows)):
            fitted = DETECTORS[method].fit(rows[seen], codes[seen], features.indices_per_layer, weights)
        detectors[method, fold] = fitted
    return detectors[method, fold]


def _score(detector: Detector, repurposer: Any, matrix: np.ndarray) -> np.ndarray:
    with threads_for(len(matrix), len(repurposer.training_codes_)):
        return detector.score(matrix)
