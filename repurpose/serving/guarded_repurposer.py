"""`GuardedRepurposer`: a Repurposer that answers only what it may, and counts what it was asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from model_handler import Features
from model_handler.network.ambient_modes import undisturbed
from repurpose.serving.familiar_rows import FamiliarRows, is_too_unfamiliar
from repurpose.serving.guarded_prediction import GuardedPrediction
from repurpose.serving.input_schema import InputSchemas
from repurpose.serving.row_counts import RowCounter, RowCounts
from repurpose.serving.row_objections import RowObjections
from repurpose.serving.screening import Screenable, screen

__all__ = ["Answering", "GuardedRepurposer"]


class Answering(Screenable, Protocol):
    """What a guard needs of a Repurposer."""

    classes_: np.ndarray

    def predict_label(self, data: object) -> np.ndarray:
        """Predict the label of each row."""
        ...

    def predict_probability(self, data: object) -> np.ndarray:
        """Predict the probability of each class."""
        ...

    @property
    def guard(self) -> Callable[..., "GuardedRepurposer"]:
        """What makes a guard of it."""
        ...


@dataclass(frozen=True, eq=False)
class GuardedRepurposer:
    """A Repurposer behind a service, as `Repurposer.guard` makes it, which documents the limits.

    They cannot be changed, and any number of threads may ask at a time; a copy, as in another process, counts anew.
    After the repurposer is trained again, every call raises ValueError: guard it again.

    Attributes
    ----------
    repurposer : Repurposer
    min_confidence, max_unfamiliarity : float or None
    schema : InputSchema, tuple or dict of them, or None
        What inputs must be: as given, else as learned in training. None where nothing is known.
    method : str
        By which rows are unfamiliar.
    has_probabilities : bool
    counts : RowCounts
        What was seen by all calls until now.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(40, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LrRepurposer(network, ["0"], c=1.0).repurpose((X, y))
    >>> guarded = repurposer.guard(min_confidence=0.5, max_unfamiliarity=0.97)
    >>> answer = guarded.predict([X[0], [100.0, 100.0], [np.nan, 0.0]])
    >>> answer.labels, answer.reasons
    (array([0, None, None], dtype=object), array([None, 'unfamiliar', 'not finite'], dtype=object))
    >>> guarded.counts.seen, guarded.counts.accepted, guarded.counts.refused["unfamiliar"]
    (3, 1, 1)
    """

    repurposer: Answering
    min_confidence: float | None
    max_unfamiliarity: float | None
    schema: InputSchemas | None
    method: str
    has_probabilities: bool
    _familiar: FamiliarRows | None = field(repr=False)
    _counter: RowCounter = field(default_factory=RowCounter, init=False, repr=False)
    _classes: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_classes", self.repurposer.classes_)

    def __reduce__(self) -> tuple[Callable[..., "GuardedRepurposer"], tuple[object, ...]]:
        guard = partial(self.repurposer.guard, method=self.method)
        return guard, (self.min_confidence, self.max_unfamiliarity, self.schema)

    @property
    def counts(self) -> RowCounts:
        """How many rows were seen, accepted, and refused for which reason."""
        return self._counter.counts()

    @undisturbed()
    def predict(self, data: object) -> GuardedPrediction:
        """Predict the label of each row that is accepted, and tell why the others are not.

        `data` are any that `predict_label` takes. Of a list or an array, rows that cannot be read (a broken image, text
        among numbers, another length) are refused like others; of anything else, what reading raises is raised, and
        nothing is counted.
        """
        return self.judge(data)[0]

    @undisturbed()
    def judge(
        self, data: object, unreadable: Mapping[int, str] | None = None
    ) -> tuple[GuardedPrediction, np.ndarray, Features | None]:
        """Predict as `predict` does, and return with it the rows that the network was asked for, and their features.

        These rows come as numbers (n_asked,); features are None where there are none. Rows that are known to be
        `unreadable`, why by their number, are not in `data` and are refused among the others.
        """
        if self.repurposer.classes_ is not self._classes:
            raise ValueError("the repurposer was trained again since guard() was called: call guard() again")
        found, features = screen(self.repurposer, data, self.schema, unreadable)
        asked = np.flatnonzero(found.accepted)
        answer = self._answer(found, features)
        self._counter.add(answer.reasons)
        return answer, asked, features

    def predict_or_raise(self, data: object) -> GuardedPrediction:
        """Predict the label of each row as `predict` does; RefusedRowsError, naming rows and reasons, where one is not.

        Its `prediction` has the answer to the others. Rows are counted all the same.
        """
        answer = self.predict(data)
        answer.raise_if_refused()
        return answer

    def _answer(self, found: RowObjections, features: Features | None) -> GuardedPrediction:
        """Judge the features of the accepted rows, in order, and put all answers together."""
        n_rows, rows = len(found.accepted), np.flatnonzero(found.accepted)
        labels = np.full(n_rows, None, dtype=object)
        probabilities = np.full((n_rows, len(self._classes)), np.nan) if self.has_probabilities else None
        unfamiliarity = None if self._familiar is None else np.full(n_rows, np.nan)
        if features is not None:
            predicted = self.repurposer.predict_label(features)
            labels[rows] = predicted.astype(object)
            if unfamiliarity is not None and self._familiar is not None:
                unfamiliarity[rows] = self._familiar.share_less_strange(features.matrix)
            if probabilities is not None:
                probabilities[rows] = self.repurposer.predict_probability(features)
        self._refuse_unfamiliar(found, unfamiliarity)
        self._refuse_uncertain(found, labels, probabilities)
        labels[~found.accepted] = None
        return GuardedPrediction(labels, found.accepted, found.reasons, found.details, probabilities, unfamiliarity)

    def _refuse_unfamiliar(self, found: RowObjections, unfamiliarity: np.ndarray | None) -> None:
        if unfamiliarity is None or self.max_unfamiliarity is None:
            return
        limit = f"where {self.max_unfamiliarity:g} is the limit"
        found.add(
            is_too_unfamiliar(unfamiliarity, self.max_unfamiliarity),
            "unfamiliar",
            lambda row: f"stranger than {unfamiliarity[row]:.4g} of familiar rows, {limit}",
        )

    def _refuse_uncertain(self, found: RowObjections, labels: np.ndarray, probabilities: np.ndarray | None) -> None:
        if probabilities is None or self.min_confidence is None:
            return
        columns = {label: column for column, label in enumerate(self._classes.tolist())}
        of_label = np.array([columns.get(label, 0) for label in labels.tolist()], dtype=np.int64)
        confidence = probabilities[np.arange(len(labels)), of_label]
        found.add(
            confidence < self.min_confidence,
            "uncertain",
            lambda row: f"a probability of {confidence[row]:.4g} for {labels[row]!r}, below {self.min_confidence:g}",
        )
