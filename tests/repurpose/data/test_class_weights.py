import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from repurpose.data.class_weights import weight_of_each_class

CODES = np.repeat([0, 1, 2], [7, 2, 3])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    found = weight_of_each_class("balanced", np.array(["apple", "fig", "pear"]), CODES)
    assert found == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=CODES))
    assert found @ np.bincount(CODES) == pytest.approx(12)  # all rows together weigh what they did


def test_classes_that_are_not_named_weigh_one() -> None:
    assert weight_of_each_class({"fig": 4.0}, np.array(["apple", "fig", "pear"]), CODES).tolist() == [1, 4, 1]
    assert weight_of_each_class(None, np.arange(3), CODES) is None
