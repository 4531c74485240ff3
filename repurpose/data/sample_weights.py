"""Sample weights are judged before anything is done, and rows of weight 0 are left out as if never given.

A weight counts examples: a row of weight 2 is the same row twice. How a head counts them is for the head to say; which
classes take weights at all is decided in `meta_model.weighted_fitting`.
"""

from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from model_handler.data import shuffling_sampler
from model_handler.user_warnings import warn_user
from repurpose.data.kinds import is_features, is_pair, n_rows_in, take_rows
from repurpose.data.labels import label_array

__all__ = ["checked_counts", "checked_weights", "present_rows", "refuse_shuffling", "without_weights"]

# Nothing that is computed in double precision can tell smaller weights from each other, nor larger ones from certainty.
_SMALLEST_WEIGHT, _LARGEST_SUM = 1e-12, 1e12

Method = TypeVar("Method", bound=Callable)


def checked_weights(sample_weight: ArrayLike | None, n_rows: int | None = None) -> np.ndarray | None:
    """Return the weights as float64 (n_rows,), or None for None; the number of rows is judged where it is known.

    Raises ValueError naming the first weight that cannot be, and where all are zero.
    """
    if sample_weight is None:
        return None
    array = _as_array(sample_weight)
    if array.ndim != 1:
        raise _refusal(n_rows, f"an array of shape {array.shape}", "give one number for each row, on one axis")
    if n_rows is not None and len(array) != n_rows:
        raise _refusal(n_rows, str(len(array)), "give one for each row, those of weight 0 too")
    if (row := _first_without_number(array)) is not None:
        raise _refusal(n_rows, f"{array.tolist()[row]!r} at row {row}", "give numbers, such as weights.astype(float)")
    weights = array.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        raise _refusal(n_rows, f"{weights[wrong[0]]:g} at row {wrong[0]}{more}", "a weight of 0 leaves a row out")
    if not weights.any():
        raise _refusal(n_rows, "zero for every row", "rows that are to count need a weight above 0")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise _refusal(n_rows, "numbers whose sum is infinite", "divide them, as by weights.mean()")
    return weights


def checked_counts(sample_weight: ArrayLike | None) -> np.ndarray | None:
    """Judge weights for training, where they count examples: they are 0 or at least 1e-12, and 1e12 in sum at most."""
    weights = checked_weights(sample_weight)
    if weights is None:
        return None
    if weights.sum() > _LARGEST_SUM:
        raise _refusal(None, f"a sum of {weights.sum():g}, above {_LARGEST_SUM:g}", "divide them, as by weights.mean()")
    return np.where(weights > 0, np.maximum(weights, _SMALLEST_WEIGHT), 0.0)


def refuse_shuffling(data: object, given: str = "sample_weight") -> None:
    """Raise ValueError for a `DataLoader` that shuffles, whose rows cannot be matched with weights or groups."""
    if shuffling_sampler(data) is not None:
        raise ValueError(
            f"the DataLoader shuffles, so {given} cannot be matched with its rows; set shuffle=False, or give "
            "arrays or a Features"
        )


def present_rows(data: object, weights: np.ndarray) -> tuple[Any, np.ndarray]:
    """Leave out the rows of weight 0, where rows can be taken by number: of arrays, lists and `Features`.

    Other data come back as they are. A class whose rows all have weight 0 is absent too, which a UserWarning says.

    Raises ValueError where there are not as many rows as weights, and where fewer than two classes are left.
    """
    kept = np.flatnonzero(weights > 0)
    if is_features(data):
        checked_weights(weights, len(data))
        if len(kept) == len(weights):
            return data, weights
        if data.labels is not None:
            _check_classes(label_array(data.labels), weights)
        return data[kept], weights[kept]
    if not is_pair(data):
        return data, weights
    inputs, labels = data[0], label_array(data[1])
    checked_weights(weights, len(labels))
    if len(kept) == len(weights) or n_rows_in(inputs) != len(labels):
        return data, weights
    rows = take_rows(inputs, kept)
    if rows is None:
        return data, weights
    _check_classes(labels, weights)
    return (rows, labels[kept]), weights[kept]


def without_weights(method: Method) -> Method:
    """Return the method of a class that takes no weights: an error that says what to do, and the signature as it is."""

    @wraps(method)
    def refusing(self: object, *args: object, **kwargs: object) -> Any:
        if "sample_weight" in kwargs:
            raise TypeError(
                f"{type(self).__name__}.{method.__name__}() got an unexpected keyword argument 'sample_weight': it "
                "cannot weigh rows. Repeat rows instead, or use LrRepurposer, SvmRepurposer, GpRepurposer, "
                "LaplaceRepurposer or BnnRepurposer; a class of your own takes weights once its "
                "_train_model_from_features has a parameter sample_weight"
            )
        return method(self, *args, **kwargs)

    return refusing  # type: ignore[return-value]


def _as_array(sample_weight: ArrayLike | torch.Tensor) -> np.ndarray:
    """Make an array of the weights, in which text and what is masked or missing are no numbers."""
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = sample_weight.detach().cpu()
        return (sample_weight.double() if sample_weight.is_floating_point() else sample_weight).numpy()
    if np.ma.is_masked(sample_weight):
        masked: np.ma.MaskedArray = np.ma.asarray(sample_weight)
        numbers = masked.data.astype(object)
        numbers[np.ma.getmaskarray(masked)] = None
        return numbers
    try:
        return np.asarray(sample_weight)
    except ValueError:  # lists of different lengths
        return np.array([*sample_weight], dtype=object)  # type: ignore[misc]


def _first_without_number(array: np.ndarray) -> int | None:
    if array.dtype.kind in "biuf":
        return None
    return next((row for row, weight in enumerate(array.tolist()) if not isinstance(weight, Real)), None)


def _check_classes(labels: np.ndarray, weights: np.ndarray) -> None:
    left = set(labels[weights > 0].tolist())
    if not (gone := [label for label in dict.fromkeys(labels.tolist()) if label not in left]):
        return
    names = ", ".join(map(repr, gone[:5])) + (", ..." if len(gone) > 5 else "")
    if len(left) < 2:
        raise ValueError(
            f"sample_weight gives every row of {names} a weight of zero, which leaves rows of {len(left)} class; a "
            "classifier needs rows of at least two classes: give some of them a weight above 0"
        )
    warn_user(
        f"sample_weight gives every row of {names} a weight of zero: not among classes_, and never predicted",
    )


def _refusal(n_rows: int | None, got: str, fix: str) -> ValueError:
    number = "" if n_rows is None else f"{n_rows} "
    return ValueError(
        f"sample_weight must hold {number}finite numbers of at least 0, not all 0, one for each row in the order of "
        f"the data; got {got}; {fix}"
    )
