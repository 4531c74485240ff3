import sys
from collections.abc import Callable

import pytest

from model_handler.network.ambient_modes import undisturbed
from model_handler.user_warnings import warn_user


def inside(module: str, call: Callable[[], None]) -> Callable[[], None]:
    """A function of a module of that name, which calls another one."""
    space = {"__name__": module, "call": call}
    exec("def calling(): call()", space)
    return space["calling"]  # type: ignore[return-value]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_warning_points_at_the_line_that_called_the_library(depth: int) -> None:
    space = {"__name__": "repurpose.domain", "warn_user": warn_user}
    exec("def warning(): warn_user('beware')", space)
    call: Callable[[], None] = space["warning"]  # type: ignore[assignment]
    for _ in range(depth):
        call = undisturbed()(inside("model_handler.data", call))
    line = sys._getframe().f_lineno + 2
    with pytest.warns(UserWarning, match="beware") as told:
        call()
    assert (told[0].filename, told[0].lineno) == (__file__, line)


def test_a_category_and_a_warning_stay_what_they_are() -> None:
    with pytest.warns(RuntimeWarning, match="beware"):
        warn_user("beware", RuntimeWarning)
    given = FutureWarning("later")
    with pytest.warns(FutureWarning) as told:
        warn_user(given)
    assert told[0].message is given
