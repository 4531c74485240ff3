"""The version of this library, as its installation states it."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "own_version"]

DISTRIBUTION = "repurpose-torch"


@cache
def own_version() -> str:
    """Return the version, such as "0.1.0"; "0+unknown", which sorts before all others, where it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"
