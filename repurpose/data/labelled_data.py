"""Data and labels are brought together here, before anything looks at them, as each kind of data asks for."""

from os import fspath
from typing import Any, TypeVar

from model_handler import Features
from model_handler.data.labels import LABEL_KEY, near_keys
from repurpose.data.kinds import (
    is_dict_of_arrays,
    is_features,
    is_file,
    is_image_folder,
    is_inputs_of_parts,
    is_pair,
    is_table,
    n_rows_in,
    opened,
    orders_its_own_rows,
)
from repurpose.data.labels import label_array

__all__ = ["REQUIRES_LABELS", "TRUE_LABELS", "given_labels", "needed_labels", "refuse_unlabelled", "with_labels"]

# Who needs labels, and for what. The first has the words that scikit-learn's checks look for.
REQUIRES_LABELS = "requires y to be passed, but the target y is None: training needs one label a row"
TRUE_LABELS = "needs the true labels"
_HOW_TO_GIVE_THEM = (
    "give data with labels, or y=labels beside the data; labels come with (X, y), a loader of (inputs, label), a "
    f"folder with one sub-folder a class, and a dict with the key {LABEL_KEY!r}"
)

T = TypeVar("T")


def with_labels(data: object, y: object) -> Any:
    """Return the data as one object that carries its labels: `(data, y)`, or a `Features` whose labels `y` replaces.

    The path of a folder becomes an `ImageFolderData`, so that the folder is listed once.

    Raises ValueError where `y` stands beside data that brings its own labels in its own order, and where a `Features`
    has another number of rows.
    """
    if y is None:
        return opened(data)
    if is_features(data):
        labels = label_array(y)
        _check_n_labels(len(labels), len(data))
        return Features(data.values, labels)
    if is_table(table := opened(data)):
        return table.labelled(label_array(y))
    if orders_its_own_rows(data):
        raise ValueError(
            f"y cannot stand beside a {type(data).__name__}, which brings its labels along in an order of its own; "
            "leave y out, or give arrays (X, y) or a Features with y"
        )
    if is_pair(data):
        raise ValueError(
            "the labels came twice: a 2-tuple is (inputs, labels), and y was given too; leave one of them out, or wrap "
            "inputs of several parts as ((a, b),)"
        )
    if is_inputs_of_parts(data):
        return data[0], y
    if (n_rows := n_rows_in(data)) is not None:
        _check_n_labels(len(label_array(y)), n_rows)
    return data, y


def refuse_unlabelled(data: object, needs: str) -> None:
    """Raise ValueError, before anything is read, for data that can have no labels; the message begins with `needs`."""
    if is_image_folder(data) and data.labels is None:
        raise ValueError(
            f"{needs}: the {len(data)} images in {data.path} lie in no sub-folder, whose name would be their label. "
            "Make one sub-folder a class, or give (paths, labels)"
        )
    if is_table(data) and data.labels is None:
        raise ValueError(
            f"{needs}: {data} names no column of labels; name it, TableData(..., label=...), one of {data.columns}"
        )
    if is_dict_of_arrays(data) and LABEL_KEY not in data:
        renamed = f"; rename {near[0]!r}" if (near := near_keys(data)) else ""
        raise ValueError(
            f"{needs}: in a dict of arrays they have the key {LABEL_KEY!r}, and it has {list(data)}{renamed}"
        )
    if is_file(data):
        raise ValueError(f"{needs}: {fspath(data)!r} is a single file without a label; give (paths, labels)")


def needed_labels(labels: T | None, needs: str) -> T:
    """Return the labels that were read. Without any, ValueError says how to give them, and begins with `needs`."""
    if labels is None:
        raise ValueError(f"{needs}: {_HOW_TO_GIVE_THEM}")
    return labels


def given_labels(data: object) -> Any:
    """Return the labels that can be read, and so judged, before the network runs; None where there are none."""
    if is_features(data) or is_table(data):
        return data.labels
    if is_dict_of_arrays(data):
        return data.get(LABEL_KEY)
    return data[1] if is_pair(data) else None


def _check_n_labels(n_labels: int, n_rows: int) -> None:
    if n_labels != n_rows:
        raise ValueError(f"the data have {n_rows} rows and y has {n_labels} labels; every row needs one label")
