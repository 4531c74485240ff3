"""Answers of a file are put beside those of the library, row by row, and judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_handler import Features
from repurpose.deployment.answers import CalibratedAnswers
from repurpose.deployment.onnx_file.interface import OnnxFileMixin
from repurpose.deployment.onnx_file.parity import CLOSE, FileDiffersError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OUTPUTS", "Comparison", "FileAnswers", "compared", "library_answers", "run_file", "run_head"]

OUTPUTS = ("probabilities", "label_index", "in_set", "p_value")
_ROWS_AT_ONCE = 32
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class FileAnswers:
    """What is answered to n_rows rows, by a file or by the library.

    Attributes
    ----------
    probabilities : float ndarray of shape (n_rows, n_classes)
    label_index : int ndarray of shape (n_rows,)
    in_set : bool ndarray of shape (n_rows, n_classes)
    p_value : float ndarray of shape (n_rows,)
    features : float32 ndarray of shape (n_rows, n_features)
    """

    probabilities: np.ndarray
    label_index: np.ndarray
    in_set: np.ndarray
    p_value: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """By how much answers differ, and in which rows labels, sets and p-values are others."""

    difference: float
    feature_difference: float
    other_labels: tuple[int, ...]
    other_sets: tuple[int, ...]
    other_p_values: tuple[int, ...]
    n_close: int


def library_answers(repurposer: OnnxFileMixin, features: Features, answers: CalibratedAnswers) -> FileAnswers:
    """Return what the Repurposer answers to features, as `predict_probability`, `predict_set` and others do."""
    options = {"allow_empty": answers.allow_empty}
    labels = repurposer.predict_label(features)
    return FileAnswers(
        repurposer.predict_probability(features),
        np.searchsorted(repurposer.classes_, labels),
        repurposer.predict_set(features, answers.coverage, answers.score, **options).members,
        repurposer.unfamiliarity_p_value(features, answers.method),
        features.matrix,
    )


def run_file(model: "ModelProto", inputs: Mapping[str, np.ndarray]) -> FileAnswers:
    """Run a file on all rows, some at a time: first one alone, as batches may have any number."""
    n_rows = len(next(iter(inputs.values())))
    ends = [1, *range(1 + _ROWS_AT_ONCE, n_rows, _ROWS_AT_ONCE), n_rows] if n_rows > 1 else [n_rows]
    session = _session(model)
    made, start = [], 0
    for end in ends:
        made.append(session.run([*OUTPUTS, "features"], {name: array[start:end] for name, array in inputs.items()}))
        start = end
    probabilities, label_index, in_set, p_value, features = map(np.concatenate, zip(*made, strict=True))
    return FileAnswers(probabilities, label_index, in_set, p_value, features)


def run_head(model: "ModelProto", features: np.ndarray) -> FileAnswers:
    """Run what stands behind the features in a file on features of the library."""
    from onnx.utils import Extractor

    head = Extractor(model).extract_model(["features"], list(OUTPUTS))
    probabilities, label_index, in_set, p_value = _session(head).run(list(OUTPUTS), {"features": features})
    return FileAnswers(probabilities, label_index, in_set, p_value, features)


def compared(
    file: FileAnswers, library: FileAnswers, answers: CalibratedAnswers, *, within: float, what: str
) -> Comparison:
    """Compare answers. Raises FileDiffersError where they differ by more than rounding does.

    Probabilities may differ by `within`, labels where two classes are as near, sets and p-values where a score is near
    that of a reference row; p-values by no more than the rows there.
    """
    difference = _largest(file.probabilities, library.probabilities)
    if not difference <= within:  # NaN, too
        raise FileDiffersError(
            f"no file was written, as its probabilities differ from those of the library by {difference:.2g} {what}, "
            f"and may by {within:g}; the largest feature differs by {_relative(file, library):.2g} of itself"
        )
    rows = np.arange(len(file.label_index))
    other_labels = file.label_index != library.label_index
    lead = library.probabilities[rows, library.label_index] - library.probabilities[rows, file.label_index]
    close_labels, close_rows, (least, most) = _closeness(answers, library.features)
    other_members = file.in_set != library.in_set
    tolerance = 1e-9
    other_p_values = np.abs(file.p_value - library.p_value) > tolerance
    wrong = {
        "labels": other_labels & (lead > 2 * within),
        # A set that would be empty gets the likeliest label, and loses it where another comes in.
        "sets": other_members.any(axis=1) & ~(close_labels.any(axis=1)),
        "p-values": other_p_values & ((file.p_value < least - tolerance) | (file.p_value > most + tolerance)),
    }
    if told := [f"{name} in rows {_few(found)}" for name, found in wrong.items() if found.any()]:
        raise FileDiffersError(
            f"no file was written, as it would give others than the library {what}: {', '.join(told)}"
        )
    return Comparison(
        difference,
        _relative(file, library),
        _numbers(other_labels),
        _numbers(other_members.any(axis=1)),
        _numbers(other_p_values),
        int((close_labels.any(axis=1) | close_rows).sum()),
    )


def _closeness(
    answers: CalibratedAnswers, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return which labels and rows have scores near that of a reference row, and p-values a little to both sides."""
    with torch.no_grad():
        given, judged = torch.from_numpy(np.ascontiguousarray(features)), answers.p_values
        found, rows = answers.closeness(given), answers.rows(given)
        scores = torch.stack([judge(rows) for judge in judged.judges])
        near = CLOSE * judged.counts.get_buffer("scales")[:, None]
        least, most = ((1 + judged.counts(scores + side * near).sum(dim=0)) / judged.n_rows for side in (1, -1))
    return (found.labels <= CLOSE).numpy(), (found.rows <= CLOSE).numpy(), (least.numpy(), most.numpy())


def _session(model: "ModelProto") -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _largest(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max(initial=0))


def _relative(file: FileAnswers, library: FileAnswers) -> float:
    return _largest(file.features, library.features) / max(float(np.abs(library.features).max(initial=0)), 1e-30)


def _numbers(found: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(found).tolist())


def _few(found: np.ndarray) -> str:
    rows = _numbers(found)
    return ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
