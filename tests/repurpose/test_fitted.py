import pytest

from repurpose.fitted import all_or_nothing, fitted_attributes, is_fitted_name


class Thing:
    pass


def test_public_names_with_one_underscore_behind_are_learned() -> None:
    assert [
        is_fitted_name(name) for name in ("classes_", "c_", "_hidden_", "__class__", "classes", "x__", "_", "a b_")
    ] == [
        True,
        True,
        False,
        False,
        False,
        False,
        False,
        False,
    ]


def _learn_halfway(thing: Thing) -> None:
    with all_or_nothing(thing):
        assert not hasattr(thing, "old_")
        thing.new_, thing.parameter = 3, 4
        raise RuntimeError


def test_learning_forgets_the_old_and_an_error_brings_it_back() -> None:
    thing = Thing()
    thing.parameter, thing.old_ = 1, 2
    with pytest.raises(RuntimeError):
        _learn_halfway(thing)
    assert vars(thing) == {"parameter": 1, "old_": 2}
    with all_or_nothing(thing):
        thing.new_ = 3
    assert fitted_attributes(thing) == {"new_": 3}
