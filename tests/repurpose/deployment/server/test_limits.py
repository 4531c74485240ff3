"""Limits are numbers above 0."""

import pytest

from repurpose.deployment.server.limits import Limits


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "20"])
def test_what_is_no_limit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"max_bytes must be a number above 0, got"):
        Limits(max_bytes=value)  # type: ignore[arg-type]
