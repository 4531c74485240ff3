"""Labels are checked: they are one sequence with one entry a row; the error for anything else says what to give."""

from collections.abc import Iterator, Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.missing_values import is_missing

__all__ = ["ELSEWHERE", "LABEL_KEY", "is_missing", "near_keys", "refuse_no_labels"]

ELSEWHERE = (
    "for other targets extract features with ModelHandler.extract or get_features_from_source_model "
    "and give Features.matrix to scikit-learn"
)
LABEL_KEY = "labels"  # where a dict has them
_SEQUENCES = (list, tuple, np.ndarray, Tensor)
_SEVERAL = (*_SEQUENCES, Set, Mapping)
_MEANT_AS_LABELS = ("label", "label_ids", "target", "targets", "y", "class", "classes", "class_id", "category")


def near_keys(keys: Any) -> list[Any]:
    """Return those of the keys of a dict that may be meant as `LABEL_KEY`."""
    return [key for key in keys if str(key).lower() in (*_MEANT_AS_LABELS, LABEL_KEY) and key != LABEL_KEY]


def refuse_no_labels(labels: object) -> None:
    """Raise TypeError for what is no sequence in the order of the rows, ValueError where a row has several labels.

    Single values, and rows with equally many labels, are left to the caller, who knows them as arrays.
    """
    if hasattr(labels, "__array__"):
        entries: Sequence[Any] | np.ndarray = (
            labels if isinstance(labels, np.ndarray) and labels.dtype.kind == "O" and labels.ndim == 1 else ()
        )
    elif isinstance(labels, Sequence) and not isinstance(labels, (str, bytes)):
        entries = labels
    elif advice := _advice(labels):
        kind = type(labels).__name__
        raise TypeError(f"labels must be a list, array or series with one label a row, got a {kind}; {advice}")
    else:
        return
    if not any(issubclass(kind, _SEVERAL) for kind in set(map(type, entries))):
        return
    counts = [_n_labels(entry) for entry in entries]
    if (
        isinstance(labels, (list, tuple))
        and len(set(counts)) == 1
        and all(isinstance(entry, _SEQUENCES) for entry in entries)
    ):
        return
    if (row := next((row for row, n in enumerate(counts) if n is not None), None)) is None:
        return
    row = next((row for row, n in enumerate(counts) if n not in (None, 1)), row)
    raise ValueError(f"labels must be one a row, a number or text, and row {row} has {_described(entries[row])}")


def _advice(labels: object) -> str:
    if isinstance(labels, (str, bytes)):
        return "give a list"
    if isinstance(labels, Mapping):
        return "give its values in the order of the rows, list(labels.values())"
    if isinstance(labels, (set, frozenset)):
        return "a set has no order and each label once: give them in the order of the rows"
    return "give list(labels)" if isinstance(labels, (Iterator, Sized)) else ""


def _n_labels(entry: object) -> int | None:
    """Return how many labels an entry holds; None for one that is a label itself."""
    if not isinstance(entry, _SEVERAL) or (isinstance(entry, (np.ndarray, Tensor)) and entry.ndim == 0):
        return None
    return len(entry)


def _described(entry: Any) -> str:
    if isinstance(entry, Mapping):
        key = next(iter(near_keys(entry)), LABEL_KEY)
        return f"a dict; give a list such as [row[{key!r}] for row in labels]"
    return (
        f"a {type(entry).__name__} of {len(entry)}, {entry!r:.60}; multi-label targets are not supported, {ELSEWHERE}"
    )
