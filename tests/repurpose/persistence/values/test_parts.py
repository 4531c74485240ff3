from dataclasses import dataclass

import numpy as np
import pytest

from repurpose.persistence.values import parts
from repurpose.persistence.values.codec import Codec, UnsavableError
from repurpose.persistence.values.parts import storable
from repurpose.training.plan.parameter_groups import ParameterGroup


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


def test_a_renamed_field_keeps_its_name_in_files() -> None:
    codec, group = Codec(), ParameterGroup("new", 0.1, 0.0, 0, ("fc.weight",), 12)
    node = codec.encode(group, "key")
    assert node["fields"]["items"]["n_numbers"] == 12
    assert "n_elements" not in node["fields"]["items"]
    assert codec.decode(node).n_elements == 12


def test_a_renamed_class_keeps_its_name_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts._NAMES_IN_FILES, "Renamed", "Original")
    monkeypatch.setitem(parts._NAMES_IN_FILES, "Renamed.size", "n")
    monkeypatch.setattr(parts, "_PARTS", {})

    @storable
    @dataclass(frozen=True)
    class Renamed:
        size: int

    codec = Codec()
    node = codec.encode(Renamed(3), "key")
    assert (node["class"], node["fields"]["items"]) == ("Original", {"n": 3})
    assert codec.decode(node) == Renamed(3)
