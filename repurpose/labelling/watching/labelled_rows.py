"""Labelled rows of a stream, and which of them are predicted wrongly."""

from collections.abc import Iterable

import numpy as np

from model_handler.data import refuse_dropped_rows
from model_handler.errors import first_few
from model_handler.user_warnings import warn_user
from repurpose.data.labelled_data import TRUE_LABELS, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import label_array, label_codes
from repurpose.labelling.watching.judges import Judges, Watched

__all__ = ["errors_of"]

_NEEDS = f"update_labelled {TRUE_LABELS}"


def errors_of(repurposer: Watched, judges: Judges, data: object, y: object) -> np.ndarray:
    """Return which labelled rows the head gets wrong: bool (n_rows,).

    A label that was never seen in training is one that it cannot get right. Raises ValueError without labels, and for
    those that are known ones but for their type, capitals or blanks, which would all be errors.
    """
    refuse_dropped_rows(data)
    repurposer._check_columns(data)
    labelled = with_labels(data, y)
    refuse_unlabelled(labelled, _NEEDS)
    features = repurposer._features_for_head(labelled)
    codes, unseen = label_codes(label_array(needed_labels(features.labels, _NEEDS)), repurposer.classes_)
    if unseen:
        _refuse_misspelt(unseen, repurposer.classes_)
        shown = first_few([f"{label!r} ({n} rows)" for label, n in unseen.items()], 5)
        warn_user(f"labels that were never seen in training count as errors: {shown}")
    return judges.predicted_codes(features.matrix) != codes


def _refuse_misspelt(unseen: Iterable[object], classes: np.ndarray) -> None:
    known = {_plain(label): label for label in classes.tolist()}
    if mistakes := [f"{label!r} for {known[_plain(label)]!r}" for label in unseen if _plain(label) in known]:
        raise ValueError(
            f"labels are spelt otherwise than in training: {first_few(mistakes, 5)}; give them as in classes_"
        )


def _plain(label: object) -> str:
    return str(label).strip().casefold()
