"""Answers of a file are put beside those of the library, row by row, and judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_handler import Features
from model_handler.data.text.text_transform import MASK
from repurpose.deployment.answers import CalibratedAnswers
from repurpose.deployment.onnx_file.interface import OnnxFileMixin
from repurpose.deployment.onnx_file.parity import CLOSE, FileDiffersError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OUTPUTS", "Comparison", "FileAnswers", "compared", "library_answers", "run_file", "run_head"]

OUTPUTS = ("probabilities", "label_index", "in_set", "p_value")
_ROWS_AT_ONCE = 32
_SHOWN = 5
_TOLERANCE = 1e-9  # of p-values, which are shares of rows


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
    """Run a file on all rows, some at a time: first one alone and not padded, as batches may have any size."""
    n_rows = len(next(iter(inputs.values())))
    ends = [1, *range(1 + _ROWS_AT_ONCE, n_rows, _ROWS_AT_ONCE), n_rows] if n_rows > 1 else [n_rows]
    session = _session(model)
    made, start = [], 0
    for end in ends:
        rows = {name: array[start:end] for name, array in inputs.items()}
        made.append(session.run([*OUTPUTS, "features"], rows if start else _without_padding(rows)))
        start = end
    probabilities, label_index, in_set, p_value, features = map(np.concatenate, zip(*made, strict=True))
    return FileAnswers(probabilities, label_index, in_set, p_value, features)


def _without_padding(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return texts without the tokens on the right that all of them mask, and other inputs as they are."""
    mask = inputs.get(MASK)
    if mask is None or not (used := np.flatnonzero(mask.any(axis=0))).size:
        return inputs
    length = used[-1] + 1
    return {name: array[:, :length] if array.shape == mask.shape else array for name, array in inputs.items()}


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
    rounding = _Rounding(answers, library.features)
    other_sets = (file.in_set != library.in_set).any(axis=1)
    other_p_values = ~(np.abs(file.p_value - library.p_value) <= _TOLERANCE)  # NaN, too
    wrong = {
        "labels": other_labels & (lead > 2 * within),
        "sets": other_sets & ~(rounding.holds_sets(file) & rounding.holds_sets(library)),
        "p-values": other_p_values & ~(rounding.holds_p_values(file) & rounding.holds_p_values(library)),
    }
    if told := [f"{name} in rows {_few(found)}" for name, found in wrong.items() if found.any()]:
        raise FileDiffersError(
            f"no file was written, as it would give others than the library {what}: {', '.join(told)}"
        )
    return Comparison(
        difference,
        _relative(file, library),
        _numbers(other_labels),
        _numbers(other_sets),
        _numbers(other_p_values),
        rounding.n_open,
    )


class _Rounding:
    """What answers may be where rounding moves scores by `CLOSE`: those of the file, and of the library too.

    The module that the file was made of says so, and may itself be wrong: then the library's answers are others.
    """

    def __init__(self, answers: CalibratedAnswers, features: np.ndarray) -> None:
        with torch.no_grad():
            self.bounds = answers.within(torch.from_numpy(np.ascontiguousarray(features)), CLOSE)
        self.allow_empty = answers.allow_empty

    @property
    def n_open(self) -> int:
        """How many rows have a set or a p-value that rounding may decide."""
        bounds = self.bounds
        return int(((bounds.surely != bounds.possibly).any(dim=1) | (bounds.least != bounds.most)).sum())

    def holds_sets(self, found: FileAnswers) -> np.ndarray:
        """Return of which rows the set may be so: bool (n_rows,)."""
        surely, possibly = self.bounds.surely.numpy(), self.bounds.possibly.numpy()
        if not self.allow_empty:  # what may be empty may have the likeliest label in place of that
            is_likeliest = found.probabilities == found.probabilities.max(axis=1, keepdims=True)
            possibly = possibly | (is_likeliest & ~surely.any(axis=1, keepdims=True))
        return ((found.in_set | ~surely) & (possibly | ~found.in_set)).all(axis=1)

    def holds_p_values(self, found: FileAnswers) -> np.ndarray:
        """Return of which rows the p-value may be so: bool (n_rows,)."""
        least, most = self.bounds.least.numpy(), self.bounds.most.numpy()
        return (found.p_value >= least - _TOLERANCE) & (found.p_value <= most + _TOLERANCE)


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
