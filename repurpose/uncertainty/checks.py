"""Judging the arguments of questions about uncertainty, before anything is computed."""

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor

from model_handler.errors import nearest
from repurpose.parameters import is_whole

__all__ = ["check_are_inputs", "check_choice", "check_count", "check_coverage", "check_share", "check_threshold"]


def check_coverage(coverage: object) -> None:
    """Raise ValueError unless `coverage` is a number above 0 and below 1."""
    number = _real_or_nan(coverage)
    if 0 < number < 1:
        return
    percent = f"; for {number:g} % write {number / 100:g}" if 1 < number < 100 else ""
    raise ValueError(f"coverage must be above 0 and below 1, such as 0.9, got {coverage!r}{percent}")


def check_threshold(abstain_below: object) -> None:
    """Raise ValueError unless `abstain_below` is a probability."""
    if not 0 <= _real_or_nan(abstain_below) <= 1:
        raise ValueError(f"abstain_below is a probability, from 0 (never abstain) to 1, got {abstain_below!r}")


def check_share(name: str, value: object) -> None:
    """Raise ValueError unless the parameter `name` is a number from 0 to 1."""
    number = _real_or_nan(value)
    if not 0 <= number <= 1:
        percent = f"; for {number:g} % write {number / 100:g}" if 1 < number < 100 else ""
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}{percent}")


def check_are_inputs(unfamiliar: object) -> None:
    """Raise ValueError for one axis of numbers, which are labels and no inputs; one of text may be paths or texts."""
    shape: tuple[int, ...] = getattr(unfamiliar, "shape", ())
    kind = getattr(getattr(unfamiliar, "dtype", None), "kind", "O")
    if len(shape) == 1 and (isinstance(unfamiliar, Tensor) or kind in "biufc"):
        raise ValueError(
            f"unfamiliar takes inputs, such as images or features, and got one axis of {shape[0]} values; if these are "
            "the true labels, give them as y=labels"
        )


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Raise ValueError, with the nearest names, unless the parameter `name` has one of the `known` values."""
    if not isinstance(value, str) or value not in known:
        hint = f" (nearest: {nearest(value, known)})" if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}{hint}")


def check_count(name: str, value: object) -> None:
    """Raise ValueError unless the parameter `name` is a whole number of at least 1."""
    if not is_whole(value, 1):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _real_or_nan(value: object) -> float:
    """Return the value where it is a real number, else NaN, which no range holds."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
