"""Arguments that cannot be are refused with what may be given."""

from fractions import Fraction

import numpy as np
import pytest

from repurpose.uncertainty.checks import check_are_inputs, check_choice, check_count, check_coverage, check_threshold


@pytest.mark.parametrize("coverage", [0.9, Fraction(1, 2), np.float32(0.25)])
def test_a_share_between_0_and_1_is_a_coverage(coverage: object) -> None:
    check_coverage(coverage)


@pytest.mark.parametrize("coverage", [0, 1, True, "0.9", None, float("nan"), -0.1])
def test_no_other_value_is_a_coverage(coverage: object) -> None:
    with pytest.raises(ValueError, match=r"coverage must be above 0 and below 1, such as 0\.9, got"):
        check_coverage(coverage)


def test_a_percentage_is_told_as_a_share() -> None:
    with pytest.raises(ValueError, match=r"got 90; for 90 % write 0\.9"):
        check_coverage(90)


def test_a_threshold_may_be_0_and_1_and_nothing_beyond() -> None:
    check_threshold(0)
    check_threshold(1.0)
    for wrong in (1.01, -0.01, True, "0.5"):
        with pytest.raises(ValueError, match="abstain_below is a probability"):
            check_threshold(wrong)


def test_labels_are_no_inputs() -> None:
    check_are_inputs(np.zeros((2, 3)))
    check_are_inputs(["a.png"])
    with pytest.raises(ValueError, match="got one axis of 2 values"):
        check_are_inputs(np.zeros(2))


def test_a_misspelt_choice_has_its_nearest_and_a_count_is_whole() -> None:
    with pytest.raises(ValueError, match=r"score must be one of 'lac', 'aps', got 'app' \(nearest: \['aps'"):
        check_choice("score", "app", ("lac", "aps"))
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        check_count("n", 0)
