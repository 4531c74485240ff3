"""The version of this library, as its installation states it."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "own_version"]

DISTRIBUTION = "repurpose-torch"


@cache
def own_version() -> str:
    """Such as "0.1.0"; "0+unknown", which sorts before all others, where the library is used without installation."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"
