"""Bringing data and labels together before anything looks at them: what a `y` beside the data means for each kind."""

import os
from collections.abc import Mapping
from os import PathLike
from typing import Any

from torch.utils.data import DataLoader, Dataset

from model_handler import Features, ImageFolderData
from model_handler.data.labels import LABEL_KEY, near_keys
from repurpose.data.labels import label_array

__all__ = ["REQUIRES_LABELS", "given_labels", "refuse_unlabelled", "with_labels"]

# What scikit-learn's checks look for, and what to do.
REQUIRES_LABELS = (
    "requires y to be passed, but the target y is None: training needs one label a row. Give (X, y), a loader of "
    "(inputs, label), a folder with one sub-folder a class, a dict with the key 'labels', or y beside X"
)


def with_labels(data: Any, y: Any) -> Any:
    """The data as one object that carries its labels: `(data, y)`, or a `Features` whose labels `y` replaces.

    The path of a folder becomes an `ImageFolderData`, so that the folder is listed once.

    Raises ValueError where `y` stands beside data that brings its own labels in its own order, and where a `Features`
    has another number of rows.
    """
    if y is None:
        return ImageFolderData(data) if isinstance(data, (str, PathLike)) and os.path.isdir(data) else data
    if isinstance(data, Features):
        return Features(data.values, _as_many(label_array(y), len(data)))
    if isinstance(data, (DataLoader, Dataset, ImageFolderData, str, PathLike)):
        raise ValueError(
            f"y cannot stand beside a {type(data).__name__}, which brings its labels along in an order of its own; "
            "leave y out, or give arrays (X, y) or a Features with y"
        )
    if isinstance(data, tuple) and len(data) == 2:
        raise ValueError(
            "the labels came twice: a 2-tuple is (inputs, labels), and y was given too; leave one of them out, or wrap "
            "inputs of several parts as ((a, b),)"
        )
    if isinstance(data, tuple) and len(data) == 1:  # ((a, b),): unlabelled inputs of several parts
        return data[0], y
    if getattr(data, "is_nested", False) is True:  # a tensor without a shape, which is refused where it is read
        return data, y
    if isinstance(data, list) or len(getattr(data, "shape", ())) > 0:
        _as_many(label_array(y), len(data) if isinstance(data, list) else data.shape[0])
    return data, y


def refuse_unlabelled(data: Any, needs: str) -> None:
    """Raise ValueError, before anything is read, for data that can have no labels; the message begins with `needs`."""
    if isinstance(data, ImageFolderData) and data.labels is None:
        raise ValueError(
            f"{needs}: the {len(data)} images in {data.path} lie in no sub-folder, whose name would be their label. "
            "Make one sub-folder a class, or give (paths, labels)"
        )
    if isinstance(data, Mapping) and LABEL_KEY not in data and not hasattr(data, "toarray"):  # sparse ones are mappings
        renamed = f"; rename {near[0]!r}" if (near := near_keys(data)) else ""
        raise ValueError(
            f"{needs}: in a dict of arrays they have the key {LABEL_KEY!r}, and it has {list(data)}{renamed}"
        )
    if isinstance(data, (str, PathLike)) and os.path.isfile(data):
        raise ValueError(f"{needs}: {os.fspath(data)!r} is a single file without a label; give (paths, labels)")


def given_labels(data: Any) -> Any:
    """The labels that can be read, and so judged, before the network runs; None where there are none."""
    if isinstance(data, Features):
        return data.labels
    if isinstance(data, Mapping) and not hasattr(data, "toarray"):
        return data.get(LABEL_KEY)
    return data[1] if isinstance(data, tuple) and len(data) == 2 else None


def _as_many(labels: Any, n_rows: int) -> Any:
    if len(labels) != n_rows:
        raise ValueError(f"the data have {n_rows} rows and y has {len(labels)} labels; every row needs one label")
    return labels
