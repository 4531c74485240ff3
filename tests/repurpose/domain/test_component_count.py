import numpy as np
import pytest

from repurpose.domain.component_count import check_n_components, n_components_for, n_components_mistakes


def test_the_count_is_the_least_that_holds_the_share() -> None:
    assert n_components_for(np.array([6.0, 3.0, 1.0]), 0.6) == 1
    assert n_components_for(np.array([6.0, 3.0, 1.0]), 0.61) == 2
    assert n_components_for(np.array([6.0, 3.0, 1.0, -1e-9]), 1.0) == 3  # what rounding leaves of 0 counts as 0
    assert n_components_for(np.zeros(3), 0.9) == 1


def test_what_cannot_be_is_told() -> None:
    assert n_components_mistakes(None) == n_components_mistakes(3) == []
    assert n_components_mistakes(0) == ["n_components must be a whole number of at least 1, or None, got 0"]
    check_n_components(None, 1)
    check_n_components(3, 3)
    with pytest.raises(ValueError, match="n_components=4 is more than these rows and features have; give at most 3"):
        check_n_components(4, 3)
