"""`ModelService`: what a model answers to the rows of a request, as values that JSON holds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler.data.text.text_transform import reads_text
from repurpose.deployment.server.bodies import Rows, rows_of_images, rows_of_json
from repurpose.deployment.server.limits import Limits
from repurpose.serving.guarded_prediction import GuardedPrediction
from repurpose.serving.guarded_repurposer import GuardedRepurposer
from repurpose.serving.input_schema import InputSchema
from repurpose.serving.row_answers import AnsweringRows, RowAnswers, SetOptions

__all__ = ["ModelService"]

_OF_INPUTS = ("unreadable", "shape", "dtype", "not finite", "range", "failed")  # reasons that are the sender's


@dataclass(frozen=True, eq=False)
class ModelService:
    """A guarded model and the rows that it is asked about; `answer_images` and `answer_json` run in one thread.

    Attributes
    ----------
    guarded : GuardedRepurposer
    answers : RowAnswers
        What sets and p-values are made of.
    kind : {"images", "texts", "numbers"}
        What rows are.
    limits : Limits
    """

    guarded: GuardedRepurposer
    answers: RowAnswers
    kind: str
    limits: Limits

    @classmethod
    def of(
        cls,
        repurposer: AnsweringRows,
        options: SetOptions,
        min_confidence: float | None,
        max_unfamiliarity: float | None,
        limits: Limits,
    ) -> "ModelService":
        """Prepare all that does not depend on a request. Raises ValueError for a model whose inputs have parts."""
        answers = RowAnswers(repurposer, options)
        guarded = repurposer.guard(min_confidence, max_unfamiliarity, method=answers.method)
        transform = repurposer._reading()["transform"]
        kind = "texts" if reads_text(transform) else "numbers" if transform is None else "images"
        if kind != "texts" and not isinstance(guarded.schema, InputSchema | None):
            raise ValueError("inputs of several parts cannot be sent to a service; its rows are one input each")
        return cls(guarded, answers, kind, limits)

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to know of it: its class, what it reads and which answers it gives."""
        cannot = {answer: str(reason) for answer, reason in self.answers.cannot.items()}
        gives = [answer for answer in ("probability", "set", "p_value") if answer not in cannot]
        if self.answers.options.coverage is None:
            gives = [answer for answer in gives if answer != "set"]
        return {
            "model": type(self.guarded.repurposer).__name__,
            "reads": self.kind,
            "n_classes": len(self.guarded.repurposer.classes_),
            "answers": ["label", *gives],
            "cannot": cannot,
        }

    def answer_images(self, files: list[bytes]) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer to images, each the bytes of a file. Raises Refusal."""
        return self._answer(rows_of_images(files, self.limits))

    def answer_json(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer to texts or rows of numbers, as JSON. Raises Refusal."""
        expected = getattr(self.guarded.schema, "dtype", None)
        whole_numbers = str(expected).startswith(("int", "uint"))
        return self._answer(rows_of_json(body, self.kind, self.limits, whole_numbers=whole_numbers))

    def _answer(self, rows: Rows) -> tuple[int, dict[str, Any]]:
        guard, asked, features = self.guarded.judge(rows.data, rows.unreadable)
        sets = p_values = None
        if features is not None:
            probabilities = None if guard.probabilities is None else guard.probabilities[asked]
            sets, p_values = self.answers.beside(features, probabilities)
        number = {row: place for place, row in enumerate(asked.tolist())}
        answered = [self._of_row(guard, row) for row in range(len(rows))]
        for row, place in number.items():
            if sets is not None:
                answered[row]["set"] = sets[place].tolist()
            if p_values is not None:
                answered[row]["p_value"] = float(p_values[place])
        repurposer = self.answers.repurposer
        classes = {"classes": repurposer.classes_.tolist(), "class_names": repurposer.class_names_.tolist()}
        # Where not a single row is an input of this model, the request is at fault.
        status = 422 if all(reason in _OF_INPUTS for reason in guard.reasons) else 200
        told = {"detail": _told(guard)} if status == 422 else {}
        return status, {**told, **classes, "rows": answered}

    def _of_row(self, guard: GuardedPrediction, row: int) -> dict[str, Any]:
        label, repurposer = guard.labels[row], self.answers.repurposer
        probabilities = None if guard.probabilities is None else guard.probabilities[row]
        known = probabilities is not None and bool(np.isfinite(probabilities).all())
        code = None if label is None else int(np.flatnonzero(repurposer.classes_ == label)[0])
        return {
            "label": label,
            "class_name": None if code is None else str(repurposer.class_names_[code]),
            "probability": float(probabilities[code]) if probabilities is not None and code is not None else None,
            "set": None,
            "p_value": None,
            "accepted": bool(guard.accepted[row]),
            "reason": guard.reasons[row],
            "detail": guard.details[row],
            "probabilities": probabilities.tolist() if probabilities is not None and known else None,
        }


def _told(guard: GuardedPrediction) -> str:
    shown = "; ".join(f"row {row}: {guard.details[row]}" for row in range(min(5, len(guard.details))))
    return f"no row is an input of this model: {shown}" + ("; ..." if len(guard.details) > 5 else "")
