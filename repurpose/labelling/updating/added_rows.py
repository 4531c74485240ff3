"""Rows to add are read and judged as those of training are, before anything that was learned is touched."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from model_handler import Features
from repurpose.data.groups import check_n_groups, joined_to_singles, judged_groups
from repurpose.data.labelled_data import TRUE_LABELS, given_labels, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.row_names import files_in_folder, naming_rows
from repurpose.data.sample_weights import checked_counts, checked_weights, refuse_shuffling
from repurpose.labelling.updating.merged_classes import MergedClasses, merge_classes, merged_names
from repurpose.uncertainty.comparisons import ReferenceRows

if TYPE_CHECKING:
    from repurpose.labelling.updating.interface import UpdatingMixin

__all__ = ["JoinedRows", "join_rows"]

_NEEDS = f"add {TRUE_LABELS}"


@dataclass(frozen=True, eq=False)
class JoinedRows:
    """The training rows and new ones behind them, of the merged classes, with the names of these."""

    rows: ReferenceRows
    merged: MergedClasses
    class_names: np.ndarray
    files: np.ndarray | None


def join_rows(
    repurposer: "UpdatingMixin", data: object, y: object, sample_weight: ArrayLike | None, groups: ArrayLike | None
) -> JoinedRows:
    """Read labelled data for a trained repurposer, and put their rows behind those of training.

    Raises TypeError and ValueError for data, labels, weights and groups that cannot be used.
    """
    training = repurposer.training_rows()
    repurposer._check_columns(data)
    labelled = with_labels(data, y)
    refuse_unlabelled(labelled, _NEEDS)
    weights = checked_counts(sample_weight)
    if weights is not None:
        refuse_shuffling(labelled)
    of_groups = judged_groups(labelled, groups, at_least=1)
    if (given := given_labels(labelled)) is not None:
        merge_classes(repurposer.classes_, given)  # judged before the network runs
    features = repurposer._features_for_head(labelled)
    files = files_in_folder(labelled)
    if of_groups is not None:
        check_n_groups(of_groups, len(features))
    if weights is not None:
        checked_weights(weights, len(features))
        present = weights > 0
        features, weights = features[present], weights[present]
        of_groups = None if of_groups is None else of_groups[present]
        files = None if files is None else files[present]
    merged = merge_classes(repurposer.classes_, needed_labels(features.labels, _NEEDS))
    codes = np.concatenate([merged.new_code[training.codes], merged.codes])
    weights = _joined_weights(training, len(features), weights)
    joined = np.concatenate([training.matrix, features.matrix])
    n_before, name_of = len(training), naming_rows(labelled, checked_counts(sample_weight))
    # Rows of before were judged then, and stay what they were.
    judged = repurposer._without_outliers(
        Features(repurposer._training_layers(ReferenceRows(joined, codes))),
        codes,
        weights,
        lambda row: name_of(row - n_before) if row >= n_before else f"{row} of training",
    )
    joined[n_before:] = judged.matrix[n_before:]
    rows = ReferenceRows(joined, codes, weights, _joined_groups(training, len(features), of_groups))
    names = merged_names(repurposer.class_names_, merged, labelled)
    return JoinedRows(rows, merged, names, _joined_files(repurposer, n_before, len(features), files))


def _joined_weights(training: ReferenceRows, n_new: int, weights: np.ndarray | None) -> np.ndarray | None:
    if training.weights is None and (weights is None or (weights == 1).all()):
        return None
    before = np.ones(len(training)) if training.weights is None else training.weights
    return np.concatenate([before, np.ones(n_new) if weights is None else weights])


def _joined_groups(training: ReferenceRows, n_new: int, groups: np.ndarray | None) -> np.ndarray | None:
    """Return the groups of all rows; those of new rows are new, and rows without are each by themselves."""
    if training.groups is None:
        return None if groups is None else joined_to_singles(len(training), groups)
    new = np.arange(n_new) if groups is None else groups
    return np.concatenate([training.groups, training.groups.max() + 1 + new])


def _joined_files(
    repurposer: "UpdatingMixin", n_before: int, n_new: int, files: np.ndarray | None
) -> np.ndarray | None:
    """Return the file of each row, empty for rows that came without; None where no row has one."""
    before = vars(repurposer).get("training_files_")
    if before is None and files is None:
        return None
    parts = [(before, n_before), (files, n_new)]
    return np.concatenate([np.full(n, "", dtype=str) if part is None else part for part, n in parts])
