"""Strings are found in what users have: a text, a list, an array, a column of pandas or of Hugging Face `datasets`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.missing_values import is_missing

__all__ = ["is_text", "list_of_texts", "texts_in"]


def texts_in(inputs: object) -> list[Any] | None:
    """Return inputs as a list with a text each row, missing ones as they are; None for what is no text.

    Bytes are given back too, so that who reads them can say what to do with them. An array or table of one column is
    this column.
    """
    listed = list_of_texts(inputs)
    if listed is None:
        return None
    first = next((text for text in listed if not is_missing(text)), None if listed else 0)
    return listed if first is None or isinstance(first, (str, bytes, bytearray)) else None


def list_of_texts(inputs: Any) -> list[Any] | None:
    """Return the entries of a sequence that may hold text, one a row; None for what cannot."""
    if isinstance(inputs, (str, bytes, bytearray)):
        return [inputs]
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    if isinstance(inputs, (Tensor, Mapping)):
        return None
    if len(getattr(inputs, "columns", ())) == 1 and hasattr(inputs, "iloc"):
        inputs = inputs.iloc[:, 0]
    if hasattr(inputs, "__array__") and not hasattr(inputs, "columns"):
        return _of_array(inputs)
    if isinstance(inputs, Sequence):  # a column of `datasets`, read only once it is known to be one of text
        return list(inputs) if len(inputs) and is_text(inputs[0]) else None
    return None


def _of_array(inputs: Any) -> list[Any] | None:
    kind = getattr(getattr(inputs, "dtype", None), "kind", "O")  # pandas' own dtypes of text have another, or none
    if kind in "biufcmMV":
        return None
    try:
        array = np.asarray(inputs)
    except TypeError:  # it refuses to be one, as a Features does
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return array.tolist() if array.dtype.kind in "OSUT" and array.ndim == 1 else None


def is_text(value: object) -> bool:
    """Return whether a value is a string, or bytes that may once have been one."""
    return isinstance(value, (str, bytes, bytearray))
