"""What a trained Repurposer knows of changed rows is computed apart from it, so that an error changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_handler import Features
from model_handler.user_warnings import warn_user
from repurpose.data.changed_rows import ChangedRows
from repurpose.labelling.updating.folds import folds_of_changed_rows
from repurpose.threads import threads_for
from repurpose.uncertainty.comparisons import ReferenceRows

if TYPE_CHECKING:
    from repurpose.labelling.updating.interface import UpdatingMixin

__all__ = ["Change", "learned_of_change"]


@dataclass(frozen=True, eq=False)
class Change:
    """The training rows and classes from now on; `came_from`, `classes` and `new_code` are those of `ChangedRows`.

    `class_names` (n_classes,) are what is shown for the classes, `files` (n_rows,) where the rows come from, if known.
    """

    rows: ReferenceRows
    came_from: np.ndarray
    classes: np.ndarray
    new_code: np.ndarray
    class_names: np.ndarray
    files: np.ndarray | None


def learned_of_change(repurposer: "UpdatingMixin", change: Change) -> tuple[dict[str, Any], list[str]]:
    """Return what the repurposer has learned after the change, by attribute name, and the names of what is no more.

    Raises what its head raises. The repurposer itself stays as it is.
    """
    rows = change.rows
    learned: dict[str, Any] = {
        "classes_": change.classes,
        "class_names_": change.class_names,
        "training_features_": rows.matrix,
        "training_codes_": rows.codes,
        "training_weights_": rows.weights,
        "training_groups_": rows.groups,
        "training_files_": change.files,
    }
    before, everything = repurposer.training_rows(), np.arange(len(rows))
    with threads_for(len(rows)):
        of_head = repurposer._head_of_changed_rows(
            _seen_by_head(repurposer, change, np.arange(len(before)), everything)
        )
        learned |= _learned_by_folds(repurposer, change)
    learned |= _conformal(repurposer, change)
    if len(change.classes) != len(change.new_code) or (change.new_code < 0).any():
        learned |= _calibration(repurposer, change)
    there = {name: value for name, value in learned.items() if value is not None}
    return there | of_head, [name for name, value in learned.items() if value is None]


def _seen_by_head(repurposer: "UpdatingMixin", change: Change, before: np.ndarray, now: np.ndarray) -> ChangedRows:
    """Return the change for a head that knew the rows numbered `before` and is to know those numbered `now`."""
    known, seen = _numbered(repurposer.training_rows(), before), _numbered(change.rows, now)
    place = np.full(len(repurposer.training_codes_) + 1, -1)  # the last one stands for new rows, whose number is -1
    place[before] = np.arange(len(before))
    layers = Features(repurposer._training_layers(change.rows))
    return ChangedRows(
        seen.matrix,
        seen.codes,
        seen.weights,
        place[change.came_from[now]],
        known.codes,
        known.weights,
        change.classes,
        change.new_code,
        layers.indices_per_layer,
    )


def _numbered(rows: ReferenceRows, numbers: np.ndarray) -> ReferenceRows:
    """Return the rows of these rising numbers; without a copy where these are all."""
    return rows if len(numbers) == len(rows) else rows[numbers]


def _learned_by_folds(repurposer: "UpdatingMixin", change: Change) -> dict[str, Any]:
    """Return folds and their heads where there are any; a fold without rows goes, with its head."""
    folds_before, heads = vars(repurposer).get("folds_"), vars(repurposer).get("fold_heads_")
    if folds_before is None:
        return {}
    folds = folds_of_changed_rows(folds_before, change.came_from, change.rows.codes, change.rows.groups)
    left = np.unique(folds[folds >= 0])
    if not len(left):  # the next question tells that none can be held out
        return {"folds_": None, "fold_heads_": None}
    renumbered = np.where(folds < 0, -1, np.searchsorted(left, folds))
    if heads is None:
        return {"folds_": renumbered}
    changed = []
    for fold in left.tolist():
        before, now = np.flatnonzero(folds_before != fold), np.flatnonzero(folds != fold)
        head = repurposer.with_learned(heads[fold])
        rows = _seen_by_head(repurposer, change, before, now)
        changed.append({**heads[fold], **_of_a_fold(head._head_of_changed_rows(rows))})
    return {"folds_": renumbered, "fold_heads_": changed}


def _of_a_fold(learned: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in learned.items() if name != "update_"}


def _conformal(repurposer: "UpdatingMixin", change: Change) -> dict[str, Any]:
    """Return the rows given to `conformalize` by the classes of now; those of a class that is gone are left out."""
    codes = vars(repurposer).get("conformal_codes_")
    if codes is None:
        return {}
    codes, groups = change.new_code[codes], vars(repurposer).get("conformal_groups_")
    kept = codes >= 0
    if n_gone := int((~kept).sum()):
        warn_user(f"{n_gone} of {len(kept)} rows given to conformalize are of a class that is gone; they are left out")
    new = np.setdiff1d(np.arange(len(change.classes)), change.new_code)
    if len(new):
        names = ", ".join(map(repr, change.classes[new].tolist()))
        warn_user(
            f"no row given to conformalize is of {names}: sets promise coverage for data in which that is never the "
            "true label. Call conformalize again, with rows of every class"
        )
    if not kept.any():
        return {"conformal_features_": None, "conformal_codes_": None, "conformal_groups_": None}
    return {
        "conformal_features_": repurposer.conformal_features_[kept],
        "conformal_codes_": codes[kept],
        "conformal_groups_": None if groups is None else groups[kept],
    }


def _calibration(repurposer: "UpdatingMixin", change: Change) -> dict[str, Any]:
    """Return the calibration for other classes than before, which only a temperature can serve."""
    calibration = vars(repurposer).get("calibration_")
    if calibration is None:
        return {}
    if not calibration.keeps_order:
        warn_user("the calibration had numbers of its own for each class, and is forgotten: call calibrate again")
        return {"calibration_": None}
    n_classes = len(change.classes)
    return {"calibration_": type(calibration)(np.full(n_classes, calibration.factors[0]), np.zeros(n_classes))}
