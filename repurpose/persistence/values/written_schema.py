"""The schema of what a class outside the library learned: of each array the name, the dtype and the shape.

What classes of the library learn is known to them; of others it is written down when they are saved. A file whose
arrays are not those is refused before a class has to make sense of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from model_handler.files.canonical_json import JsonValue
from repurpose.persistence.values import heads, parts

__all__ = ["WrittenSchema", "written_schema_mistake", "written_schema_of"]

WrittenSchema = dict[str, list]  # [dtype, shape] of each array, and [type, []] of each object, by path


def written_schema_of(learned: Mapping[str, object]) -> WrittenSchema:
    """Return the schema of learned attributes, with paths such as ``"target_model_.coef_"``."""
    return {path: entry for name, value in learned.items() for path, entry in _entries(name, value)}


def written_schema_mistake(schema: JsonValue, learned: Mapping[str, object]) -> str:
    """Say which attribute is not what the schema has, "" where all are."""
    if not isinstance(schema, dict):
        return "it has no usable schema"
    found = written_schema_of(learned)
    for path in (*schema, *found):
        if schema.get(path) != found.get(path):
            return f"{path} is {_said(found.get(path))}, where {_said(schema.get(path))} was saved"
    return ""


def _entries(path: str, value: Any) -> Iterator[tuple[str, list]]:
    if isinstance(value, np.ndarray):
        yield path, [value.dtype.newbyteorder("=").str, list(value.shape)]
    elif isinstance(value, Tensor):
        yield path, [str(value.dtype), list(value.shape)]
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _entries(f"{path}.{i}", item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _entries(f"{path}.{name}", item)
    elif parts.is_storable(value):
        yield from _entries(path, parts.take_part_apart(value))
    elif isinstance(value, nn.Module):
        yield from _entries(path, dict(value.state_dict()))
    elif isinstance(value, BaseEstimator):
        yield path, [type(value).__qualname__, []]
        # Of a plain logistic regression, files hold what it predicts by.
        plain = heads.is_plain_logistic_regression(value)
        yield from _entries(path, heads.take_apart(value)["learned"] if plain else vars(value))


def _said(entry: JsonValue) -> str:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
        return "nothing"
    return f"{str(entry[0])[:40]} {tuple(entry[1])}" if entry[1] else str(entry[0])[:40]
