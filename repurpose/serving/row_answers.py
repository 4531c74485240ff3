"""`RowAnswers`: label, probabilities, set and p-value of rows, from one pass through the network.

What new rows are compared with is computed once, so that a batch costs its own rows alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from model_handler import Features
from model_handler.network.ambient_modes import undisturbed
from repurpose.serving.familiar_rows import FamiliarRows
from repurpose.serving.guarded_repurposer import GuardedRepurposer
from repurpose.serving.screening import Screenable
from repurpose.uncertainty.checks import check_choice, check_coverage
from repurpose.uncertainty.comparisons import METHODS, KnownLabels, ReferenceRows, Scorer
from repurpose.uncertainty.prediction_sets import SCORES, PredictionSets

__all__ = ["AnsweredRows", "AnsweringRows", "RowAnswers", "SetOptions"]

_NO_ANSWER = (ValueError, NotImplementedError)  # what is raised where an answer cannot be given


class AnsweringRows(Screenable, Protocol):
    """What answers are asked of: a trained Repurposer."""

    classes_: np.ndarray
    class_names_: np.ndarray
    predict_label: Callable[..., np.ndarray]
    predict_probability: Callable[..., np.ndarray]
    guard: Callable[..., GuardedRepurposer]
    _reading: Callable[[], dict[str, Any]]
    _judged: Callable[[object], object]
    _features_for_head: Callable[[object], Features]
    _check_is_repurposed: Callable[[], None]
    _check_defines: Callable[[str, str], None]
    _checked_method: Callable[[str], str]
    _method_to_export: str
    _scorers_with_unseen_rows: Callable[[str], Iterator[tuple[Scorer, ReferenceRows]]]
    _known_labels: Callable[[str], Iterable[KnownLabels]]
    _sets: Callable[..., PredictionSets]


@dataclass(frozen=True)
class SetOptions:
    """What sets and p-values are asked for.

    Attributes
    ----------
    coverage : float or None
        Of the sets, as in `predict_set`; None for no sets.
    score : {"lac", "aps", "raps"}
        As in `predict_set`.
    method : str
        As in `unfamiliarity_p_value`; of networks trained end to end ``"auto"`` is ``"energy"``.
    """

    coverage: float | None = 0.9
    score: str = "lac"
    method: str = "auto"

    def check(self) -> None:
        """Raise ValueError for a coverage, a score or a method that there is not."""
        if self.coverage is not None:
            check_coverage(self.coverage)
        check_choice("score", self.score, SCORES)
        check_choice("method", self.method, ("auto", *METHODS))


@dataclass(frozen=True, eq=False)
class AnsweredRows:
    """The answers to some rows, in their order; None for what the repurposer cannot say.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,)
    probabilities : ndarray of shape (n_rows, n_classes), or None
    sets : PredictionSets, or None
    p_values : ndarray of shape (n_rows,), or None
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    sets: PredictionSets | None
    p_values: np.ndarray | None


class RowAnswers:
    """What a trained Repurposer answers to rows; made once, asked by any number of threads.

    `cannot` says of ``"probability"``, ``"set"`` and ``"p_value"``, where it cannot answer these, why. Making it may
    train the heads of the folds, as `predict_set` does where `conformalize` was not called. Raises NotFittedError, and
    ValueError for options that cannot be.
    """

    @undisturbed()
    def __init__(self, repurposer: AnsweringRows, options: SetOptions) -> None:
        repurposer._check_is_repurposed()
        options.check()
        self.repurposer = repurposer
        self.options = options
        self.method = repurposer._method_to_export if options.method == "auto" else options.method
        self.cannot: dict[str, Exception] = {}
        self._has_probabilities = self._tried("probability", self._check_probabilities) is not None
        has_sets = options.coverage is not None
        self._known = self._tried("set", self._known_labels) if has_sets else None
        self._familiar = self._tried("p_value", self._familiar_rows)

    @undisturbed()
    def read(self, data: object) -> Features:
        """Return the features of data for the head, which are judged as at prediction: what it raises is raised."""
        return self.repurposer._features_for_head(self.repurposer._judged(data))

    @undisturbed()
    def of(self, features: Features) -> AnsweredRows:
        """Return the answers to rows of features."""
        labels = self.repurposer.predict_label(features)
        probabilities = self.repurposer.predict_probability(features) if self._has_probabilities else None
        return AnsweredRows(labels, probabilities, *self.beside(features, probabilities))

    @undisturbed()
    def beside(
        self, features: Features, probabilities: np.ndarray | None
    ) -> tuple[PredictionSets | None, np.ndarray | None]:
        """Return the sets and p-values of rows whose `probabilities` (n_rows, n_classes) are known."""
        sets, (coverage, score) = None, (self.options.coverage, self.options.score)
        if self._known is not None:
            sets = self.repurposer._sets(features, probabilities, coverage, score, allow_empty=False, known=self._known)
        return sets, None if self._familiar is None else self._familiar.p_values(features.matrix)

    def _tried(self, answer: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except _NO_ANSWER as error:
            self.cannot[answer] = error
            return None

    def _check_probabilities(self) -> bool:
        self.repurposer._check_defines("_predict_probability_from_features", "probabilities")
        return True

    def _known_labels(self) -> list[KnownLabels]:
        self._check_probabilities()
        return list(self.repurposer._known_labels(self.options.score))

    def _familiar_rows(self) -> FamiliarRows:
        method = self.repurposer._checked_method(self.method)
        return FamiliarRows(self.repurposer._scorers_with_unseen_rows(method))
