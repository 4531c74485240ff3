"""Records: small frozen dataclasses that a saved repurposer may hold, written field by field.

Only classes marked with `record` are written, and only they can come out of a file, which names one of them and never
code to import.
"""

from dataclasses import fields
from typing import Any, TypeVar

from repurpose.persistence.registry import class_name

__all__ = ["is_record", "make_record", "record", "take_fields"]

_RECORDS: dict[str, type] = {}
_T = TypeVar("_T", bound=type)


def record(cls: _T) -> _T:
    """Mark a dataclass as one whose fields, arrays and plain values, may be saved; to stand above ``@dataclass``."""
    _RECORDS[class_name(cls)] = cls
    return cls


def is_record(value: Any) -> bool:
    """Whether the class of `value`, and no base of it alone, was marked."""
    return _RECORDS.get(class_name(type(value))) is type(value)


def take_fields(value: Any) -> dict[str, Any]:
    """The fields of a record by name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def make_record(name: str, values: dict[str, Any]) -> Any:
    """The record whose fields were taken. Raises ValueError for another class or other fields."""
    if name not in _RECORDS:
        raise ValueError(f"it holds a record of the unknown class {name!r}; known are {', '.join(sorted(_RECORDS))}")
    cls = _RECORDS[name]
    if values.keys() != (wanted := {field.name for field in fields(cls)}):
        raise ValueError(f"a {cls.__qualname__} has the fields {sorted(wanted)}, and the file has {sorted(values)}")
    return cls(**values)
