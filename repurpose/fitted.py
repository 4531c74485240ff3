"""What a Repurposer learned is in its public attributes whose names end in an underscore, as in scikit-learn."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["all_or_nothing", "fitted_attributes", "is_fitted_name"]

_FITTED_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?<!_)_")


def is_fitted_name(name: str) -> bool:
    """Return whether `name` is public and ends in one underscore, as `classes_` does."""
    return _FITTED_NAME.fullmatch(name) is not None


def fitted_attributes(estimator: object) -> dict[str, Any]:
    """Return everything the estimator learned, by attribute name."""
    return {name: value for name, value in vars(estimator).items() if is_fitted_name(name)}


@contextmanager
def all_or_nothing(estimator: object) -> Iterator[None]:
    """Train inside this block, in place: what was learned before is forgotten, and restored after an error."""
    before = dict(vars(estimator))
    try:
        for name in fitted_attributes(estimator):
            delattr(estimator, name)
        yield
    except BaseException:  # an interruption from the keyboard too
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
