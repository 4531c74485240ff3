"""`ServingMixin`: what a Repurposer offers to who puts it behind a service; `Repurposer` inherits it."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np

from model_handler import Features
from model_handler.data import Batches, as_batches
from model_handler.network.ambient_modes import undisturbed
from repurpose.persistence.values.schema import Maybe, Object, Table
from repurpose.serving.familiar_rows import FamiliarRows
from repurpose.serving.guarded_repurposer import GuardedRepurposer
from repurpose.serving.input_schema import InputSchemas, check_schema, learned_schema
from repurpose.serving.reference_answers import ReferenceAnswers, keep_inputs
from repurpose.serving.validation import (
    ChangedAnswersError,
    ExpectedAnswers,
    ValidationReport,
    check_tolerance,
    compare,
    expected_answers,
)
from repurpose.uncertainty.checks import check_share
from repurpose.uncertainty.comparisons import ReferenceRows, Scorer

__all__ = ["ServingMixin"]

_PROBABILITY_HOOK = "_predict_probability_from_features"


class ServingMixin:
    """A guard against inputs that should not be answered, and a test of whether a loaded model is the one saved.

    Attributes
    ----------
    reference_answers_ : ReferenceAnswers
        After `remember_answers`: inputs and the answers to them, which are saved with the rest.
    """

    _schema: ClassVar[Table] = {"reference_answers_": Maybe(Object(ReferenceAnswers))}

    classes_: np.ndarray
    reference_answers_: ReferenceAnswers
    predict_label: Callable[..., np.ndarray]
    predict_probability: Callable[..., np.ndarray]
    _judged: Callable[[object], object]
    _check_is_repurposed: Callable[[], None]
    _check_defines: Callable[[str, str], None]
    _checked_method: Callable[[str], str]
    _defines: Callable[[str], bool]
    _scorers_with_unseen_rows: Callable[[str], Iterator[tuple[Scorer, ReferenceRows]]]

    @undisturbed()
    def guard(
        self,
        min_confidence: float | None = None,
        max_unfamiliarity: float | None = None,
        schema: InputSchemas | None = None,
        *,
        method: str = "auto",
    ) -> GuardedRepurposer:
        """Return a predictor for services, which refuses rows that it should not answer, says why, and counts them.

        It refuses rows that cannot be read, that are not of the schema, that hold NaN or infinite values, that are
        stranger than those of training, or of whose label the head is not sure. `GuardedRepurposer.predict` marks
        them, `predict_or_raise` raises an error.

        Parameters
        ----------
        min_confidence : float, optional
            The least probability of the predicted label, 0 to 1; as `calibrate` has it where that was called.
        max_unfamiliarity : float, optional
            The share of familiar rows than which a row may be stranger, 0 to 1: 0.99 refuses what is stranger than 99 %
            of them, where `unfamiliarity_p_value` is 0.01 or less. So of fresh familiar rows one in a hundred is
            refused at most, on average, where rows were given to `conformalize`; without, the training rows serve, and
            two in a hundred is what is proven. For 0.99 there must be 99 such rows.
        schema : InputSchema, tuple of them or dict of them by name, optional
            What inputs must be, as the network gets them, behind any preprocessing; of inputs of several parts one
            each. By default the shape of rows in training, with any size where sizes differed, and for networks that
            are trained the kind of dtype; nothing after training on `Features`. The range of values is not kept in
            training: `InputSchema.of` takes it from data.
        method : str, default="auto"
            As in `unfamiliarity`. Networks that are trained keep no rows: they need `conformalize` and ``"energy"``.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError, TypeError
            For limits that are no numbers from 0 to 1, what is no schema, and too few familiar rows.
        NotImplementedError
            Where the head has no probabilities for `min_confidence`, or cannot serve the method.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import InputSchema, LrRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0).repurpose((X, y))
        >>> guarded = repurposer.guard(min_confidence=0.5, schema=InputSchema((2,), low=-20.0, high=20.0))
        >>> guarded.predict([X[0], [5.0, 300.0]])
        GuardedPrediction(2 rows, 1 accepted; refused: 1 range)
        """
        self._check_is_repurposed()
        if schema is not None:
            check_schema(schema)
        if min_confidence is not None:
            check_share("min_confidence", min_confidence)
            self._check_defines(_PROBABILITY_HOOK, "probabilities")
        familiar = None
        if max_unfamiliarity is not None:
            check_share("max_unfamiliarity", max_unfamiliarity)
            familiar = FamiliarRows(self._scorers_with_unseen_rows(self._checked_method(method)))
            familiar.check_can_refuse(max_unfamiliarity)
        self._reading()  # a source that cannot be opened fails here, and not at the first request
        expected = learned_schema(vars(self)) if schema is None else schema
        has_probabilities = self._defines(_PROBABILITY_HOOK)
        return GuardedRepurposer(
            self, min_confidence, max_unfamiliarity, expected, method, has_probabilities, _familiar=familiar
        )

    @undisturbed()
    def remember_answers(self, data: object) -> Self:
        """Keep a few inputs with the answers to them, by which `validate` tests what is loaded; in place.

        Call it last, before saving: `repurpose` and `calibrate` change the answers, and forget them. `data` are as in
        `predict_label`, at most 1,000 rows; they are saved with the rest, images as pixels before any preprocessing.
        Some rows of each class, and some that stand between two, show most. Raises ValueError for more rows, and for
        rows of several shapes that are no images.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> LrRepurposer(network, c=1.0).repurpose((X, y)).remember_answers(X[:10]).reference_answers_.codes.shape
        (10,)
        """
        inputs = keep_inputs(self._judged(data), self._reading())
        # Of what was kept, as `validate` will ask: bits may depend on how rows are batched.
        labels, probabilities = self._answers_to(inputs.data)
        self.reference_answers_ = ReferenceAnswers(inputs, np.searchsorted(self.classes_, labels), probabilities)
        return self

    @undisturbed()
    def validate(self, data: object = None, expected: object = None, *, tolerance: float = 1e-3) -> ValidationReport:
        """Compare the answers of now with those that are expected, and raise ChangedAnswersError where they differ.

        After loading, it tells whether network, weights, preprocessing and libraries still are what they were.

        Parameters
        ----------
        data : as in `predict_label`, optional
            Inputs whose answers are known; without, those given to `remember_answers` before saving.
        expected : array-like of shape (n_rows,) or (n_rows, n_classes), optional
            Beside `data`: the labels that should be predicted, each of which must agree, or the probabilities.
        tolerance : float, default=1e-3
            By how much a probability may differ: other processors add in another order.
            `ValidationReport.is_identical` tells whether there was any difference at all.

        Raises
        ------
        ChangedAnswersError
            Where answers are others; its `report` says which and by how much. It is a ValueError.
        ValueError
            Where nothing was remembered, and for `data` and `expected` that do not go together.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer, load
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0).repurpose((X, y)).remember_answers(X[:10])
        >>> manifest_hash = repurposer.save_repurposer("my-repurposer")
        >>> load("my-repurposer", source_model=network).validate().changed_rows
        ()
        """
        self._check_is_repurposed()
        check_tolerance(tolerance)
        if (data is None) != (expected is None):
            raise ValueError("data and expected go together: inputs, and the labels or probabilities to expect of them")
        if data is None:
            remembered = self._remembered()
            labels, probabilities = self._answers_to(remembered.inputs.data)
            known = ExpectedAnswers(self.classes_[remembered.codes], remembered.probabilities)
        else:
            labels, probabilities = self._answers_to(data)
            known = expected_answers(expected, len(labels), len(self.classes_))
        report = compare(labels, probabilities, known, tolerance)
        if report.changed_rows:
            raise ChangedAnswersError(report)
        return report

    def rows_in_batches(self, data: object) -> Batches:
        """Read any data in batches, as for prediction, after the checks that come before any work."""
        return as_batches(self._judged(data), **self._reading())

    def features_to_judge(self, data: object) -> Features:
        """Compute the features of data for the head, of the right width, and possibly with NaN or infinite values."""
        raise NotImplementedError(f"{type(self).__name__} cannot predict; use a method such as LrRepurposer")

    def _reading(self) -> dict[str, Any]:
        """Return the options of `as_batches` for all data."""
        raise NotImplementedError(f"{type(self).__name__} cannot predict; use a method such as LrRepurposer")

    def _remembered(self) -> ReferenceAnswers:
        if not hasattr(self, "reference_answers_"):
            raise ValueError(
                f"this {type(self).__name__} has no answers to compare with: call remember_answers(data) before saving "
                "(repurpose and calibrate forget them), or validate(data, expected)"
            )
        return self.reference_answers_

    def _answers_to(self, data: object) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the labels of rows, and their probabilities where the head has some."""
        has_probabilities = self._defines(_PROBABILITY_HOOK)
        return self.predict_label(data), self.predict_probability(data) if has_probabilities else None
