"""Which images `train` can hold out."""

from collections import Counter

import pytest

from repurpose.cli.held_out import _why_none


@pytest.mark.parametrize(
    ("counts", "part", "reason"),
    [
        ({"a": 8, "b": 8}, 0.2, None),
        ({"a": 8, "b": 8, "c": 1, "d": 3}, 0.2, None),
        ({"a": 8, "b": 8}, 0, "--holdout 0"),
        ({"a": 8}, 0.2, "only one class, 'a', has labels"),
        ({"a": 8, "b": 1}, 0.2, "too few images, 1 in class 'b' and 2 to hold out"),
        ({"a": 2, "b": 3}, 0.2, "too few images, 2 in class 'a' and 1 to hold out"),
        ({"a": 4, "b": 4, "c": 4}, 0.1, "too few images, 4 in class 'c' and 2 to hold out"),
        ({"a": 4, "b": 4, "c": 4}, 0.9, "too few images, 4 in class 'c' and 11 to hold out"),
    ],
)
def test_two_classes_of_four_images_are_enough_for_them(
    counts: dict[str, int], part: float, reason: str | None
) -> None:
    assert _why_none(Counter(counts), part) == reason
