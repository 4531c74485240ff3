"""What a trial is scored by: a scorer of scikit-learn's, by name or as a callable; the larger, the better."""

from collections.abc import Callable

import numpy as np

from model_handler.errors import nearest
from repurpose.data.labels import label_codes
from repurpose.repurposer import Repurposer

__all__ = ["Scorer", "name_of_scoring", "negative_log_loss", "scorer_of"]

Scorer = Callable[[Repurposer, object, np.ndarray], float]  # of a trained Repurposer, held-out data and their labels

_LOG_LOSS = "neg_log_loss"


def scorer_of(scoring: object) -> Scorer:
    """Return the scorer of a name, or the callable itself. Raises ValueError for an unknown name, else TypeError."""
    from sklearn.metrics import get_scorer, get_scorer_names

    if callable(scoring):
        return scoring
    if not isinstance(scoring, str):
        raise TypeError(
            f"scoring must be the name of a scorer, or callable as scorer(repurposer, X, y), got {scoring!r}"
        )
    if scoring == _LOG_LOSS:
        return negative_log_loss
    if scoring not in (names := get_scorer_names()):
        raise ValueError(f"there is no scorer {scoring!r}; nearest: {', '.join(nearest(scoring, names))}")
    return get_scorer(scoring)


def name_of_scoring(scoring: object) -> str:
    """Return a name, or how a callable calls itself."""
    return scoring if isinstance(scoring, str) else str(getattr(scoring, "__name__", type(scoring).__name__))


def negative_log_loss(repurposer: Repurposer, data: object, labels: np.ndarray) -> float:
    """Return minus the mean log loss in nats; scikit-learn's scorer refuses labels (n_rows,) that lack a class.

    A class that was never seen in training costs as much as a probability of 0: as in scikit-learn's, the last digit of
    the probabilities' dtype stands for it.
    """
    probabilities = repurposer.predict_probability(data)
    codes, _ = label_codes(labels, repurposer.classes_)
    of_truth = np.where(codes < 0, 0, probabilities[np.arange(len(codes)), codes])
    return float(np.log(np.maximum(of_truth, np.finfo(probabilities.dtype).eps), dtype=np.float64).mean())
