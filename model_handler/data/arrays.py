"""Arrays: numeric input is checked and converted to numpy arrays or tensors, without a copy where it is one already.

What networks cannot take is refused here with its fix, before anything of it is lost: masks, missing values, text,
sparse and ragged layouts.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_array", "refuse_masked"]

_LAYOUTS = "give X.to_dense() of a sparse tensor, X.to_padded_tensor(0) of a nested one"


def as_array(value: object, name: str) -> np.ndarray | Tensor:
    """Return a tensor (detached) or a numpy array of numbers or booleans, not copied where it is one already.

    Raises TypeError for what cannot become numbers (text, records, sparse matrices) and ValueError for complex numbers,
    ragged lists, masked and missing values.
    """
    refuse_masked(value, name)
    if isinstance(value, Tensor):
        _refuse_layout(value, name)
        return value.detach()
    if hasattr(value, "toarray"):
        raise TypeError(f"{name} is sparse ({type(value).__name__}); networks take dense input: give {name}.toarray()")
    if not isinstance(value, (list, tuple)) and not hasattr(value, "__array__"):
        raise TypeError(f"{name} must be an array or a tensor, got {type(value).__name__}")
    array = _from_list(value, name) if isinstance(value, (list, tuple)) else np.asarray(value)
    if array.dtype.kind == "O":
        array = _as_float64(array, name, list(getattr(value, "columns", ())))
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}")
    if array.dtype.names:
        raise TypeError(
            f"{name} must hold numbers, got records with the fields {list(array.dtype.names)}: give "
            f"numpy.lib.recfunctions.structured_to_unstructured({name}), or a dict of arrays where the network takes "
            "several inputs"
        )
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got an array of dtype {array.dtype}")
    return array


def refuse_masked(value: object, name: str) -> None:
    """Raise ValueError for an array or tensor in which something is masked: numbers under a mask would be used."""
    if isinstance(value, (list, tuple)):
        if not any(issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, value))):  # many times faster
            return
        counts = np.array([np.ma.count_masked(row) if isinstance(row, np.ma.MaskedArray) else 0 for row in value])
        if counts.any():
            _refuse_masked_rows(counts > 0, int(counts.sum()), name)
    elif isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        if mask.any():
            _refuse_masked_rows(np.atleast_1d(mask.any(axis=tuple(range(1, mask.ndim)))), int(mask.sum()), name)
    elif isinstance(value, torch.masked.MaskedTensor):
        raise ValueError(
            f"{name} is a masked tensor, which networks do not take: fill it, {name}.to_tensor(0), or drop the masked "
            "rows and give the tensor of the others, get_data()"
        )


def _refuse_masked_rows(rows: np.ndarray, n_values: int, name: str) -> None:
    has = "have" if name.endswith("labels") else "has"
    raise ValueError(
        f"{name} {has} {n_values} masked value{'s' * (n_values > 1)} in {int(rows.sum())} of {len(rows)} rows, the "
        f"first in row {int(rows.argmax())}; what is masked would be used all the same: fill it, .filled(0), or drop "
        "the rows"
    )


def _refuse_layout(tensor: Tensor, name: str) -> None:
    if tensor.is_nested or tensor.layout != torch.strided:
        raise TypeError(f"{name} is no dense tensor ({_layout_of(tensor)}); networks take dense input: {_LAYOUTS}")
    if tensor.is_complex():
        raise ValueError(f"Complex data not supported: {name} has dtype {tensor.dtype}")
    if tensor.is_quantized:
        raise TypeError(f"{name} is a quantized tensor ({tensor.dtype}); give {name}.dequantize()")
    if tensor.is_meta:
        raise ValueError(f"{name} is on the device 'meta', where tensors have a shape and no numbers")


def _layout_of(tensor: Tensor) -> str:
    return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")


def _from_list(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray([row.detach().cpu().numpy() if isinstance(row, Tensor) else row for row in value])
    except ValueError as error:
        raise ValueError(
            f"the rows of {name} differ in shape, so they are no array; pad or resize them "
            "(a list is rows; inputs with labels are the tuple (X, y), inputs of several parts the tuple ((a, b),))"
        ) from error


def _as_float64(array: np.ndarray, name: str, columns: list[Any]) -> np.ndarray:
    """Return an array of objects as float64. Raises ValueError, saying where, for missing values and text."""
    cells = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    for is_kind, kind, fix in _UNFIT:
        found = np.frompyfunc(is_kind, 1, 1)(cells).astype(bool)
        if found.any():
            row, column = (int(place[0]) for place in np.nonzero(found))
            where = f"column {columns[column]!r}" if column < len(columns) else f"column {column}"
            others = [columns[place] for place in np.flatnonzero(found.any(axis=0)) if place < len(columns)]
            raise ValueError(
                f"{name} must hold numbers alone, and has {kind} in {int(found.any(axis=1).sum())} of {len(cells)} "
                f"rows, the first in row {row}, {where} ({cells[row, column]!r})"
                f"{f'; the columns are {others}' if len(others) > 1 else ''}; {fix}"
            )
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must hold numbers alone: {error}") from error


def _is_missing(cell: object) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")


def _is_string(cell: object) -> bool:
    return isinstance(cell, (str, bytes))


_UNFIT = (
    (_is_string, "text", "leave it out, or turn it into numbers, such as by pandas.get_dummies(X)"),
    (_is_missing, "missing values", "fill them, such as X.fillna(0) of a DataFrame, or drop these rows, X.dropna()"),
)
