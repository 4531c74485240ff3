"""Labels of a target domain are judged here and nowhere else: all of its rows, some or none may have one.

Data without labels are `X` alone, `(X, None)`, a flat folder, and a `Features` or a loader without labels. A single
label is missing where it is None, NaN or masked; -1, scikit-learn's mark of rows without a label, only among whole
numbers, and where the source domain has no class of that name, be its labels numbers or, as those of another task may
be, text. In an array of text numpy has written None and NaN as text, which is missing as -1 is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model_handler.data.labels import LABEL_KEY, is_missing, refuse_no_labels
from model_handler.user_warnings import warn_user
from repurpose.data.kinds import is_dict_of_arrays, is_pair, is_table, opened
from repurpose.data.labelled_data import with_labels
from repurpose.data.labels import label_array, label_codes

__all__ = ["LabelCodes", "TargetLabels", "judge_labels", "labels_apart"]


@dataclass(frozen=True, eq=False)
class TargetLabels:
    """The labels that there are: `values` (n_labelled,) of the rows numbered `rows` (n_labelled,), of `n_rows`.

    `marks` are labels that stand for one that is missing.
    """

    values: np.ndarray
    rows: np.ndarray
    n_rows: int
    marks: tuple[object, ...] = ()

    @property
    def are_complete(self) -> bool:
        """Whether every row has a label."""
        return len(self.rows) == self.n_rows

    def codes(self, classes: np.ndarray) -> np.ndarray:
        """Return the place in `classes` of each row's label, and -1 for rows without one: int64 (n_rows,)."""
        codes = np.full(self.n_rows, -1)
        codes[self.rows] = label_codes(self.values, classes)[0]
        return codes


class LabelCodes:
    """Codes of labels as batches bring them: places in `classes`, -1 for one that is missing or one of `without`."""

    def __init__(self, classes: np.ndarray, without: Collection[object] = ()) -> None:
        codes = {label: code for code, label in enumerate(classes.tolist())}
        self._codes: dict[object, int] = {**dict.fromkeys(without, -1), **codes}

    def of(self, labels: object) -> np.ndarray:
        """Return codes, int64 (n_rows,). Raises ValueError for a label that the first pass over the data had not."""
        return np.array([self._code(label) for label in _as_array(labels).tolist()], dtype=np.int64)

    def _code(self, label: object) -> int:
        if is_missing(label):
            return -1
        if label not in self._codes:
            known = ", ".join(map(repr, list(self._codes)[:5]))
            raise ValueError(
                f"the label {label!r} is not among the classes: the first pass over the data had {known}. Leave such "
                "rows out, or see that every class is in each pass (a sampler may miss one)"
            )
        return self._codes[label]


def labels_apart(data: object, y: object) -> tuple[Any, np.ndarray | None]:
    """Return data that can be read whatever labels are missing, and the labels that stood beside the inputs.

    The labels in the data that come back are numbers of rows, by which the true ones are found after reading. The
    second is None where there are no labels, and where only reading the data shows them. Raises as `with_labels`.
    """
    if y is not None:
        labels = _as_array(y)
        return with_labels(data, np.arange(len(labels))), labels
    if is_table(data := opened(data)) and data.labels is not None:
        labels = _as_array(data.labels)
        return data.labelled(np.arange(len(labels))), labels
    if is_pair(data):
        inputs, given = data
        if given is None:
            return ((inputs,) if isinstance(inputs, tuple) else inputs), None
        labels = _as_array(given)
        return (inputs, np.arange(len(labels))), labels
    if is_dict_of_arrays(data) and LABEL_KEY in data:
        rest = {name: part for name, part in data.items() if name != LABEL_KEY}
        if data[LABEL_KEY] is None:
            return rest, None
        labels = _as_array(data[LABEL_KEY])
        return {**rest, LABEL_KEY: np.arange(len(labels))}, labels
    return data, None


def judge_labels(labels: object, source_labels: np.ndarray, n_rows: int) -> TargetLabels:
    """Tell which of `n_rows` rows have a label, and which; `labels` is None where none has.

    `source_labels` are those of the source domain; whole numbers that NaN made floats come back, unless theirs are
    floats. Raises ValueError for continuous targets, several labels a row, and text among numbers. -1, and what numpy
    wrote of None or NaN, taken as missing gives a UserWarning.
    """
    array = np.empty(0) if labels is None else _as_array(labels)
    if array.ndim != 1:
        array = label_array(array)
    missing = np.array([is_missing(label) for label in array.tolist()], dtype=bool)
    present = array[~missing]
    values = label_array(present.tolist() if present.dtype.kind == "O" else present)
    if len({isinstance(label, str) for label in values.tolist()}) > 1:
        raise ValueError(
            "labels of the target must be all numbers or all text, got a mixture; a label that is missing is None"
        )
    rows = np.flatnonzero(~missing)
    if source_labels.dtype.kind in "iuUO" and values.dtype.kind == "f":
        values = values.astype(np.int64)
    marks = _marks(array, values, source_labels)
    is_marked = np.isin(values, marks)
    if is_marked.any():
        found = ", ".join(map(repr, np.unique(values[is_marked]).tolist()))
        in_a_list = ", in a list, since numpy makes text of them" if array.dtype.kind == "U" else ""
        warn_user(
            f"{is_marked.sum()} rows of the target have the label {found}, which no row of the source has: they are "
            f"taken as rows without a label; give None or NaN for these{in_a_list}"
        )
    return TargetLabels(values[~is_marked], rows[~is_marked], n_rows, tuple(marks))


def _marks(labels: np.ndarray, values: np.ndarray, source_labels: np.ndarray) -> list[int] | list[str]:
    """List what stands for a label that is missing, and is none of the source's; `values` are those of the labels."""
    known = source_labels.tolist()
    if labels.dtype.kind == "U":
        return [text for text in ("nan", "None") if text not in known]
    # Labels that are floats are whole too, and pandas makes floats of whole numbers as soon as one is missing.
    return [-1] if values.dtype.kind in "if" and -1 not in known else []


def _as_array(labels: object) -> np.ndarray:
    """Return labels as an array in which numpy has turned no None, NaN or number among text into text."""
    refuse_no_labels(labels)
    if isinstance(labels, torch.Tensor):
        return labels.detach().cpu().numpy()
    if isinstance(labels, np.ma.MaskedArray):
        labels = labels.tolist()  # None where it is masked; as an array it would show what it hides
    if not isinstance(labels, (list, tuple)):
        return np.atleast_1d(np.asarray(labels))
    array = np.empty(len(labels), dtype=object)
    array[:] = list(labels)
    return array
