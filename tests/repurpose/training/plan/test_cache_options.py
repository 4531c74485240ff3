from typing import Any

import numpy as np
import pytest

from repurpose.training.plan.cache_options import cache_options


@pytest.mark.parametrize(
    ("value", "when"), [("auto", "auto"), (0, False), (1, True), (np.False_, False), ({"when": np.True_}, True)]
)
def test_what_equals_a_truth_value_means_it(value: Any, when: Any) -> None:
    assert cache_options(value).when is when
