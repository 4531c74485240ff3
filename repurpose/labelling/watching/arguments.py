"""Judging the arguments of a watch, before anything is computed."""

from numbers import Real
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from repurpose.data.sample_weights import refuse_shuffling

__all__ = ["check_alpha", "check_least_probability", "check_tolerance", "checked_probabilities"]

_ROUNDING = 1e-6  # of probabilities in float32


def check_alpha(alpha: object) -> None:
    """Raise ValueError unless `alpha` is a number above 0 and below 1."""
    if not (_is_number(alpha) and 0 < alpha < 1):
        percent = f"; for {alpha:g} % write {alpha / 100:g}" if _is_number(alpha) and 1 <= alpha < 100 else ""
        raise ValueError(
            f"alpha is the probability of a false alarm, above 0 and below 1, such as 0.01; got {alpha!r}{percent}"
        )


def check_tolerance(tolerance: object) -> None:
    """Raise ValueError unless `tolerance` is a share of rows below 1."""
    if not (_is_number(tolerance) and 0 <= tolerance < 1):
        raise ValueError(
            f"tolerance is by how much the share of errors may be larger in the stream, from 0 to below 1; got "
            f"{tolerance!r}"
        )


def check_least_probability(least_probability: object) -> None:
    """Raise ValueError unless `least_probability` is None or a number above 0 and below 1."""
    if least_probability is not None and not (_is_number(least_probability) and 0 < least_probability < 1):
        raise ValueError(
            "least_probability is the least with which a row may be chosen to be labelled, above 0 and below 1, or "
            f"None where all are alike; got {least_probability!r}"
        )


def checked_probabilities(
    data: object, probabilities: ArrayLike | None, least_probability: float | None
) -> np.ndarray | None:
    """Return sampling probabilities as float64 (n_rows,), or None where there are none and none are needed.

    Raises ValueError where they are missing, not expected, beside a loader that shuffles, or out of range.
    """
    if probabilities is None and least_probability is None:
        return None
    if probabilities is None:
        raise ValueError(
            f"this watch was made with least_probability={least_probability:g}: say with which probabilities these "
            "rows were chosen, update_labelled(..., probabilities=...)"
        )
    if least_probability is None:
        raise ValueError(
            "probabilities need a bound that was fixed beforehand: watch(least_probability=...). Without, labelled "
            "rows must be a random sample of the stream, and need none"
        )
    refuse_shuffling(data, "probabilities")
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"probabilities must be on one axis, one a row; got an array of shape {given.shape}")
    lowest, highest = least_probability * (1 - _ROUNDING), 1 + _ROUNDING
    wrong = np.flatnonzero(~((given >= lowest) & (given <= highest))).tolist()
    if wrong:
        raise ValueError(
            f"probabilities must be from {least_probability:g}, the least that was fixed beforehand, to 1; that of row "
            f"{wrong[0]} is {given[wrong[0]]:g}, and {len(wrong)} of {len(given)} are not"
        )
    return given.clip(least_probability, 1)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
