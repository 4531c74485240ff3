"""Labels of new rows are classes that are known, or new ones, which come to their sorted places."""

from dataclasses import dataclass

import numpy as np

from repurpose.data.class_names import class_names
from repurpose.data.labels import encode_labels, label_array

__all__ = ["MergedClasses", "merge_classes", "merged_names"]


@dataclass(frozen=True, eq=False)
class MergedClasses:
    """All classes, sorted, (n_classes,); the place there of each class of before, and of the class of each new row."""

    classes: np.ndarray
    new_code: np.ndarray
    codes: np.ndarray


def merge_classes(known: np.ndarray, labels: object) -> MergedClasses:
    """Bring the labels of new rows to the `known` classes (n_known,), sorted.

    Raises ValueError and TypeError as `encode_labels` does, and so for text beside numbers.
    """
    array = label_array(labels)
    encoded = encode_labels([*known.tolist(), *array.tolist()])
    n_known, classes = len(known), encoded.classes
    if len(classes) == n_known:
        classes = known
    elif known.dtype.kind == "O":
        classes = classes.astype(object)
    elif known.dtype.kind in "iu" and classes.dtype.kind == "f":  # whole numbers as they were judged
        classes = classes.astype(np.int64)
    return MergedClasses(classes, encoded.codes[:n_known], encoded.codes[n_known:])


def merged_names(names: np.ndarray, merged: MergedClasses, data: object) -> np.ndarray:
    """Return what is shown for all classes, (n_classes,): the `names` that there were, and those of new classes."""
    if len(merged.classes) == len(names):
        return names
    shown = class_names(data, merged.classes).astype(object)
    new = np.ones(len(shown), dtype=bool)
    new[merged.new_code] = False
    known = set(names.tolist())
    for code in np.flatnonzero(new):
        if shown[code] in known:
            shown[code] = f"{shown[code]} ({merged.classes[code]})"
    shown[merged.new_code] = names
    return shown.astype(str)
