"""Small classes of ours that a file may hold: frozen dataclasses of arrays, written field by field under their name."""

from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["is_storable", "put_part_together", "storable", "take_part_apart"]

_T = TypeVar("_T", bound=type)
_PARTS: dict[str, type] = {}


def storable(cls: _T) -> _T:
    """Decorator: let files hold instances of this dataclass. Its name is what the file says, so keep it."""
    _PARTS[cls.__name__] = cls
    return cls


def is_storable(value: Any) -> bool:
    """Whether `value` is an instance of a class marked `storable`, and of no subclass."""
    return _PARTS.get(type(value).__name__) is type(value)


def take_part_apart(value: Any) -> dict[str, Any]:
    """The fields by name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def put_part_together(name: str, values: dict[str, Any]) -> Any:
    """The instance with these fields. Raises ValueError for a class that is not known here or has other fields."""
    if name not in _PARTS:
        raise ValueError(f"it holds a {name!r}, which this version does not know")
    expected = [field.name for field in fields(_PARTS[name])]
    if sorted(values) != sorted(expected):
        raise ValueError(f"it holds a {name} of {sorted(values)} where {sorted(expected)} were expected")
    return _PARTS[name](**values)
