"""Patterns of names."""

import pytest

from model_handler.data.tar.braces import expanded


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("a-{b}.tar", ["a-{b}.tar"]),
    ],
)
def test_patterns_stand_for_names(pattern: str, names: list[str]) -> None:
    assert expanded(pattern) == names


@pytest.mark.parametrize("pattern", ["{3..1}.tar", "{0..9999999}.tar", "{0..9999}{0..9999}.tar"])
def test_patterns_backwards_and_of_too_many_names_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"smaller number first|1,000,000"):
        expanded(pattern)
