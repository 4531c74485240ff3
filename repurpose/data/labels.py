"""Labels are judged, coded 0..C-1 for the methods that learn, and compared when predictions are scored.

Classification only. Continuous and multi-label targets are refused with a pointer to `Features`, which scikit-learn's
regressors and multi-label classifiers take as a matrix.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import DataConversionWarning

from model_handler.data.labels import ELSEWHERE, is_missing, refuse_no_labels
from model_handler.user_warnings import warn_user

__all__ = ["EncodedLabels", "encode_labels", "label_array", "label_codes"]


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """The sorted `classes` of shape (n_classes,) and `codes`, the index of each row's class, of shape (n_samples,)."""

    classes: np.ndarray
    codes: np.ndarray


def label_array(labels: object) -> np.ndarray:
    """Return one label a row, shape (n_samples,), from a list, array, series or tensor of numbers, bools or text.

    Raises ValueError for missing labels (saying how many), for continuous targets and for several labels a row, and
    TypeError for what has no order, such as a set.
    """
    refuse_no_labels(labels)
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else _without_conversion(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        warn_user(
            "A column-vector y was passed when a 1d array was expected; it was taken as one label a row. "
            "Pass y.ravel() to silence this.",
            DataConversionWarning,
        )
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {array.shape} instead: one label a row is needed "
            f"(one-hot rows become labels by argmax(axis=1)); multi-label targets are not supported, {ELSEWHERE}"
        )
    if n_missing := int(_missing(array).sum()):
        raise ValueError(
            f"{n_missing} of {len(array)} labels are missing (NaN or None); leave those rows out, "
            "for example with data[~missing]"
        )
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: labels must be whole numbers, bools or text")
    if array.dtype.kind == "f":
        continuous = array[~(np.isfinite(array) & (array == np.floor(array)))]
        if len(continuous):
            raise ValueError(
                "Unknown label type: continuous. Labels must be classes (whole numbers, bools or text), "
                f"got {_first_values(np.unique(continuous))}; {ELSEWHERE}"
            )
    return array


def encode_labels(labels: object) -> EncodedLabels:
    """Return the classes among the labels, sorted as scikit-learn sorts them, and the code of each row.

    Raises ValueError as `label_array` does, and for fewer than two classes; TypeError for labels that cannot be sorted.
    """
    array = label_array(labels)
    try:
        classes, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in array.tolist()})
        raise TypeError(f"labels must be all numbers or all text, got a mixture of {', '.join(kinds)}") from error
    if len(classes) < 2:
        raise ValueError(
            f"the labels hold {len(classes)} class{'' if len(classes) else 'es'}{': ' * len(classes)}"
            f"{_first_values(classes)}; a classifier needs rows of at least two classes"
        )
    return EncodedLabels(classes, codes.astype(np.int64))


def label_codes(labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, Counter]:
    """Find the index of each label in `classes`, shape (n_samples,), or -1; and how often each absent label occurs."""
    lookup = {label: code for code, label in enumerate(classes.tolist())}
    codes = np.array([lookup.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    return codes, Counter(labels[codes < 0].tolist())


def _without_conversion(labels: object) -> np.ndarray:
    """Return an array of the labels in which numpy has not turned numbers, None or NaN among text into text."""
    array = np.asarray(labels)
    if (
        array.dtype.kind == "U"
        and isinstance(labels, (list, tuple))
        and not all(isinstance(item, str) for item in labels)
    ):
        return np.array(labels, dtype=object)
    return array


def _missing(array: np.ndarray) -> np.ndarray:
    """Return where a label is NaN, None, NaT or pandas' NA: bool of shape (n_samples,)."""
    if array.dtype.kind in "biuSUV":
        return np.zeros(len(array), dtype=bool)
    if array.dtype.kind != "O":
        return array != array  # only NaN and NaT differ from themselves
    return np.array([is_missing(label) for label in array], dtype=bool)


def _first_values(values: np.ndarray, n: int = 3) -> str:
    return ", ".join(repr(value) for value in values[:n].tolist()) + (", ..." if len(values) > n else "")
