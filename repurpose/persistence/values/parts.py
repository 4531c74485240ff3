"""Serialization of our frozen dataclasses of arrays: a file holds them field by field, under their name."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["check_part", "is_storable", "name_in_files", "put_part_together", "storable", "take_part_apart"]

_T = TypeVar("_T", bound=type)
_PARTS: dict[str, type] = {}  # by their names in files

# A class, or a field of one, that is renamed keeps its name in files, so that those of earlier versions are read.
_NAMES_IN_FILES = {"ParameterGroup.n_elements": "n_numbers"}


def storable(cls: _T) -> _T:
    """Let files hold instances of the decorated dataclass, under its name and those of its fields.

    One that is renamed goes into `_NAMES_IN_FILES` with the name that it had.
    """
    _PARTS[name_in_files(cls)] = cls
    return cls


def is_storable(value: Any) -> bool:
    """Tell whether `value` is an instance of a class marked `storable`, and of no subclass."""
    return _PARTS.get(name_in_files(type(value))) is type(value)


def name_in_files(cls: type) -> str:
    """Return the name under which files hold instances of a class."""
    return _NAMES_IN_FILES.get(cls.__name__, cls.__name__)


def take_part_apart(value: Any) -> dict[str, Any]:
    """Return the values of the fields by the names that files have for them."""
    return {in_file: getattr(value, name) for in_file, name in _fields_in_files(type(value)).items()}


def put_part_together(name: str, values: dict[str, Any]) -> Any:
    """Rebuild the instance with these fields, once `check_part` has passed them."""
    expected = _fields_in_files(_PARTS[name])
    return _PARTS[name](**{expected[in_file]: value for in_file, value in values.items()})


def check_part(name: str, values: Iterable[str]) -> None:
    """Raise ValueError for an unknown class, or fields that are not those of the class."""
    if name not in _PARTS:
        raise ValueError(f"it holds a {name!r}, which this version does not know")
    expected = _fields_in_files(_PARTS[name])
    if sorted(values) != sorted(expected):
        raise ValueError(f"it holds a {name} of {sorted(values)} where {sorted(expected)} were expected")


def _fields_in_files(cls: Any) -> dict[str, str]:
    """Return the names of the fields of a dataclass by those that files have for them."""
    return {_NAMES_IN_FILES.get(f"{cls.__name__}.{field.name}", field.name): field.name for field in fields(cls)}
