"""The answers to rows as columns of a table: which there are, what they are called, and what stands in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from model_handler.errors import first_few, nearest
from repurpose.serving.row_answers import AnsweredRows

__all__ = ["ANSWERS", "DEFAULT", "check_are_free", "columns_of", "named_answers"]

DEFAULT = ("label", "probability", "set", "p_value")
ANSWERS = (*DEFAULT, "probabilities", "class_name", "error")
_OF_PROBABILITIES = ("probability", "probabilities")


def named_answers(
    columns: Mapping[str, str | None] | None, cannot: Mapping[str, Exception], default: Sequence[str] = DEFAULT
) -> dict[str, str]:
    """Return the answers that are wanted, each with the name of its column; by default without those of `cannot`.

    Raises ValueError for an unknown answer, for two columns of one name, and the reason in `cannot` where an answer is
    asked for that cannot be given.
    """
    asked: Mapping[str, str | None] = {} if columns is None else columns
    if unknown := [answer for answer in asked if answer not in ANSWERS]:
        raise ValueError(
            f"columns has names for answers, and {unknown[0]!r} is none; the nearest are "
            f"{', '.join(map(repr, nearest(str(unknown[0]), ANSWERS)))}"
        )
    wanted = {**dict(zip(default, default)), **asked}
    named = {answer: name for answer, name in wanted.items() if name is not None}
    for answer in list(named):
        if (reason := cannot.get("probability" if answer in _OF_PROBABILITIES else answer)) is None:
            continue
        if answer in asked:
            raise ValueError(f"there is no {answer} to give: {reason}") from reason
        del named[answer]
    if len(set(named.values())) < len(named) or not all(isinstance(name, str) and name for name in named.values()):
        raise ValueError(f"columns must have a name of its own for each answer, got {dict(named)}")
    return named


def check_are_free(named: Mapping[str, str], taken: Sequence[object]) -> None:
    """Raise ValueError where a table has a column already that an answer would be written over."""
    if clashes := {answer: name for answer, name in named.items() if name in taken}:
        others = ", ".join(f"{answer!r}: 'predicted_{name}'" for answer, name in clashes.items())
        raise ValueError(
            f"the table has a column {first_few(list(map(repr, clashes.values())))} already, which is not written "
            f"over: predictor(columns={{{others}}}) calls the answer otherwise"
        )


def columns_of(
    answers: AnsweredRows | None, wanted: Sequence[str], classes: np.ndarray, class_names: np.ndarray
) -> dict[str, np.ndarray]:
    """Return a column for each wanted answer, one entry a row; empty ones of the same kinds where there are no rows.

    Sets are lists of labels, the most likely first, in an array of objects.
    """
    if answers is None:
        empty = np.zeros((0, len(classes)))
        answers = AnsweredRows(classes[:0], empty, None, empty[:, 0])
    codes = {label: code for code, label in enumerate(classes.tolist())}
    of_label = np.array([codes[label] for label in answers.labels.tolist()], dtype=np.int64)
    make: dict[str, Callable[[], Any]] = {
        "label": lambda: answers.labels,
        "probability": lambda: answers.probabilities[np.arange(len(of_label)), of_label],  # type: ignore[index]
        "set": lambda: _of_lists([labels.tolist() for labels in answers.sets or ()]),
        "p_value": lambda: answers.p_values,
        "probabilities": lambda: answers.probabilities,
        "class_name": lambda: class_names[of_label],
        "error": lambda: np.full(len(of_label), None, dtype=object),
    }
    return {answer: make[answer]() for answer in wanted}


def _of_lists(lists: list[list[Any]]) -> np.ndarray:
    column = np.empty(len(lists), dtype=object)
    for row, entry in enumerate(lists):  # numpy would make a matrix of lists of one length
        column[row] = entry
    return column
