from inspect import Parameter

import pytest

from repurpose.parameters import constructor_parameters, full_signature, unknown_parameters


class Base:
    def __init__(self, source, *, speed=1, **unknown):
        pass


class Middle(Base):
    def __init__(self, source, layers, *, speed=2, **kwargs):
        pass


class Leaf(Middle):
    def __init__(self, n=5, **kwargs):
        pass


class Closed(Middle):
    def __init__(self, layers):
        pass


class Silent(Middle):
    pass


def test_parameters_are_collected_while_kwargs_are_forwarded() -> None:
    assert list(constructor_parameters(Leaf)) == ["n", "source", "layers", "speed"]
    assert list(constructor_parameters(Closed)) == ["layers"]
    assert list(constructor_parameters(Silent)) == ["source", "layers", "speed"]


def test_the_nearest_class_decides_the_default() -> None:
    assert constructor_parameters(Leaf)["speed"].default == 2


def test_a_forwarded_parameter_is_keyword_only_and_the_signature_is_valid() -> None:
    signature = full_signature(Leaf)
    assert signature.parameters["source"].kind is Parameter.KEYWORD_ONLY
    assert signature.parameters["n"].kind is Parameter.POSITIONAL_OR_KEYWORD


def test_varargs_are_refused() -> None:
    class Loose(Base):
        def __init__(self, *things):
            pass

    with pytest.raises(TypeError, match=r"Loose.__init__ takes \*things"):
        constructor_parameters(Loose)


def test_unknown_names_come_with_the_nearest() -> None:
    assert unknown_parameters(Leaf, ["sped"]).startswith("Leaf has no parameter 'sped' (nearest: speed)")
