"""Text is not accepted as data yet: it is told from paths, so that who gave sentences is not told of missing files."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.data.text.paths import has_image_suffix

__all__ = ["TEXT", "quoted_beginning", "refuse_text"]

TEXT = (
    "text is not yet data: tokenize it and give what the tokenizer returns, a dict of arrays such as "
    "{'input_ids': ..., 'attention_mask': ...}, for training with the labels under the key 'labels'"
)


def refuse_text(inputs: object, name: str) -> None:
    """Raise TypeError if inputs, or a part of several, are text: strings, lists or arrays of them, or of such lists.

    A table with a column of images is told how this column is given.
    """
    _refuse_table_of_images(inputs, name)
    if isinstance(inputs, Mapping):
        for key, part in inputs.items():
            refuse_text(part, f"input {key!r}")
    elif isinstance(inputs, tuple):
        for part in inputs:
            refuse_text(part, f"a part of {name}")
    elif _is_text(inputs):
        raise TypeError(f"{name} must hold numbers, and holds strings: {TEXT}")


def _refuse_table_of_images(inputs: Any, name: str) -> None:
    for column in getattr(inputs, "columns", ()):
        first = next(iter(inputs[column]), None) if isinstance(column, str) else None
        if isinstance(first, str) and has_image_suffix(first):
            raise TypeError(
                f"{name} is a table, whose column {column!r} holds paths of images: give this column alone, "
                f"df[{column!r}], or beside that of the labels, (df[{column!r}], df[...])"
            )


def _is_text(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return True
    if isinstance(value, (list, tuple)):
        return _is_text(next((cell for cell in value if cell is not None), None))
    kind = getattr(getattr(value, "dtype", None), "kind", "O")  # a table has none, and an array on disk is not read
    if isinstance(value, Tensor) or not hasattr(value, "__array__") or kind not in "OSU":
        return False
    array = np.asarray(value)
    return array.dtype.kind in "SU" or (
        array.dtype.kind == "O" and array.size > 0 and all(isinstance(cell, (str, bytes)) for cell in array.flat)
    )


def quoted_beginning(text: str, n: int = 40) -> str:
    """Return text in quotation marks, of which no more than a beginning is shown."""
    return repr(text if len(text) <= n else text[:n] + "...")
