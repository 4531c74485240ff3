"""The arguments of operations as JSON: numbers, text, lists and what torch adds, with references to earlier values.

What JSON has no word for is an object with one entry, whose name says what it is. A value that was computed before is
`{"value": 3}`, by its place in the program: inputs come first, then the nodes in their order.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import fx

from model_handler.errors import UnsafeFileError
from model_handler.files.canonical_json import JsonValue

__all__ = ["DTYPES", "Reference", "UnsendableError", "as_json", "from_json", "references_in"]

_KINDS = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _KINDS}
_FORMATS = {
    str(layout).removeprefix("torch."): layout
    for layout in (torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format)
}
_MOST_DEEP, _MOST_TEXT, _MOST_ITEMS = 16, 10_000, 100_000
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class UnsendableError(ValueError):
    """A value that has no form as data."""


class Reference(NamedTuple):
    """A value of the program, by its place."""

    place: int


def as_json(value: object, places: Mapping[fx.Node, int] | None = None) -> JsonValue:
    """Return an argument as JSON. Raises UnsendableError naming the type of what has no form."""
    if value is None or type(value) in (bool, str) or (type(value) is int and _SMALLEST <= value <= _LARGEST):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, fx.Node):
        if places is None or value not in places:
            raise UnsendableError("a value of another module")
        return {"value": places[value]}
    if type(value) in (tuple, torch.Size):
        return {"tuple": [as_json(item, places) for item in value]}  # type: ignore[attr-defined]
    if isinstance(value, list):
        return [as_json(item, places) for item in value]
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {"dict": {name: as_json(item, places) for name, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [as_json(part, places) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.dtype) and str(value).removeprefix("torch.") in DTYPES:
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    raise UnsendableError(f"a value of type {type(value).__module__}.{type(value).__qualname__}")


def from_json(said: JsonValue, n_known: int = 0, depth: int = 0) -> Any:
    """Return the argument that `as_json` gave, with a `Reference` for each of the `n_known` values before it.

    Raises UnsafeFileError for anything that it cannot have given.
    """
    if depth > _MOST_DEEP:
        raise UnsafeFileError(f"its graph has an argument nested more than {_MOST_DEEP} deep")
    if said is None or type(said) in (bool, float):
        return said
    if type(said) is int and _SMALLEST <= said <= _LARGEST:
        return said
    if type(said) is str and len(said) <= _MOST_TEXT:
        return said
    if type(said) is list and len(said) <= _MOST_ITEMS:
        return [from_json(item, n_known, depth + 1) for item in said]
    if type(said) is dict and len(said) == 1:
        ((kind, content),) = said.items()
        if kind in _READERS:
            return _READERS[kind](content, n_known, depth + 1)
    raise UnsafeFileError(f"its graph has the argument {str(said)[:60]!r}, which is of no known kind")


def references_in(value: object) -> list[int]:
    """Return the places of all values that an argument refers to."""
    if isinstance(value, Reference):
        return [value.place]
    if isinstance(value, (list, tuple)):
        return [place for item in value for place in references_in(item)]
    if isinstance(value, dict):
        return references_in(list(value.values()))
    return references_in([value.start, value.stop, value.step]) if isinstance(value, slice) else []


def _reference(content: JsonValue, n_known: int, depth: int) -> Reference:
    if type(content) is not int or not 0 <= content < n_known:
        raise UnsafeFileError(f"its graph reads the value {str(content)[:40]!r}, where {n_known} are known")
    return Reference(content)


def _items(content: JsonValue, n_known: int, depth: int) -> list[Any]:
    if type(content) is not list:
        raise UnsafeFileError(f"its graph has {str(content)[:40]!r} in the place of a list")
    return from_json(content, n_known, depth)


def _slice(content: JsonValue, n_known: int, depth: int) -> slice:
    parts = _items(content, n_known, depth)
    if len(parts) != 3:
        raise UnsafeFileError(f"its graph has a slice of {len(parts)} parts")
    return slice(*parts)


def _dict(content: JsonValue, n_known: int, depth: int) -> dict[str, Any]:
    if type(content) is not dict or len(content) > _MOST_ITEMS:
        raise UnsafeFileError(f"its graph has {str(content)[:40]!r} in the place of a dict")
    return {name: from_json(item, n_known, depth) for name, item in content.items()}


def _float(content: JsonValue, n_known: int, depth: int) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise UnsafeFileError(f"its graph has the number {str(content)[:40]!r}, which JSON has a word for")
    return float(content)


def _ellipsis(content: JsonValue, n_known: int, depth: int) -> Any:
    if content is not True:
        raise UnsafeFileError(f"its graph has an ellipsis that is {str(content)[:40]!r}")
    return Ellipsis


def _of_table(table: Mapping[str, Any], what: str) -> Callable[[JsonValue, int, int], Any]:
    def found(content: JsonValue, n_known: int, depth: int) -> Any:
        if type(content) is not str or content not in table:
            raise UnsafeFileError(f"its graph has the unknown {what} {str(content)[:40]!r}")
        return table[content]

    return found


_READERS: dict[str, Callable[[JsonValue, int, int], Any]] = {
    "value": _reference,
    "tuple": lambda content, n_known, depth: tuple(_items(content, n_known, depth)),
    "dict": _dict,
    "slice": _slice,
    "float": _float,
    "dtype": _of_table(DTYPES, "dtype"),
    "memory_format": _of_table(_FORMATS, "memory format"),
    "ellipsis": _ellipsis,
}
