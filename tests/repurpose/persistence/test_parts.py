from dataclasses import dataclass

import numpy as np
import pytest

from repurpose.persistence.codec import Codec, UnsavableError
from repurpose.persistence.parts import storable


@storable
@dataclass(frozen=True, eq=False)
class Weights:
    values: np.ndarray
    name: str


@storable
@dataclass(frozen=True, eq=False)
class Pair:
    first: Weights
    second: Weights | None


@dataclass(frozen=True)
class Unmarked(Weights):
    pass


def test_a_part_in_a_part_comes_back_field_by_field() -> None:
    codec = Codec()
    node = codec.encode(Pair(Weights(np.arange(3.0), "a"), None), "key")
    found = codec.decode(node)
    assert type(found) is Pair
    assert (found.first.name, found.second) == ("a", None)
    assert np.array_equal(found.first.values, np.arange(3.0))


def test_only_marked_classes_are_written() -> None:
    with pytest.raises(UnsavableError, match="Unmarked"):
        Codec().encode(Unmarked(np.zeros(1), "a"), "key")


def test_a_file_cannot_name_another_class_or_other_fields() -> None:
    codec = Codec()
    node = codec.encode(Weights(np.zeros(1), "a"), "key")
    with pytest.raises(ValueError, match="it holds a 'os:system', which this version does not know"):
        codec.decode({**node, "class": "os:system"})
    with pytest.raises(ValueError, match=r"a Weights of \['name'\] where \['name', 'values'\] were expected"):
        codec.decode({**node, "fields": {"type": "dict", "items": {"name": "a"}}})
