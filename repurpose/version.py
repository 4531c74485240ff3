"""The versions of this library, as its installation states it, and of those that what it saves depends on."""

import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "library_versions", "own_version"]

DISTRIBUTION = "repurpose-torch"


@cache
def own_version() -> str:
    """Return the version, such as "0.1.0"; "0+unknown", which sorts before all others, where it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute predictions or read files, by name."""
    import numpy
    import sklearn
    import torch

    found = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": numpy.__version__}
    found["scikit-learn"] = sklearn.__version__
    with suppress(PackageNotFoundError):
        found["skops"] = version("skops")  # not imported: most heads need none
    return found
