"""Rows to remove take a class along with its last row, unless that is to stay."""

from typing import TYPE_CHECKING

import numpy as np

from repurpose.labelling.updating.changes import Change
from repurpose.uncertainty.comparisons import ReferenceRows

if TYPE_CHECKING:
    from repurpose.labelling.updating.interface import UpdatingMixin

__all__ = ["change_of_removal"]


def change_of_removal(
    repurposer: "UpdatingMixin", gone: np.ndarray, files: np.ndarray | None, *, keep_classes: bool
) -> Change:
    """Return the change where the training rows numbered `gone` (n_gone,) are no more.

    Raises ValueError where rows of fewer than two classes would be left, and for a class that a head cannot keep.
    """
    training = repurposer.training_rows()
    stay = np.setdiff1d(np.arange(len(training)), gone)
    left = training[stay]
    if len(np.unique(left.codes)) < 2:
        raise ValueError(
            f"removing {len(gone)} of {len(training)} rows would leave rows of {len(np.unique(left.codes))} class(es); "
            "a classifier needs rows of at least two classes: add others first, or remove fewer"
        )
    n_classes = len(repurposer.classes_)
    without = np.setdiff1d(training.codes[gone], left.codes)
    if keep_classes and len(without) and not repurposer._keeps_classes_without_rows:
        names = ", ".join(map(repr, repurposer.classes_[without].tolist()))
        raise ValueError(f"{type(repurposer).__name__} cannot keep {names} without a row; leave keep_classes out")
    kept = np.arange(n_classes) if keep_classes else np.setdiff1d(np.arange(n_classes), without)
    new_code = np.full(n_classes, -1)
    new_code[kept] = np.arange(len(kept))
    rows = ReferenceRows(left.matrix, new_code[left.codes], left.weights, left.groups)
    names_kept = repurposer.class_names_[kept]
    return Change(rows, stay, repurposer.classes_[kept], new_code, names_kept, None if files is None else files[stay])
