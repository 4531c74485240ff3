"""Rows of features are judged before a head takes them: there are some, and every value is a finite number."""

from collections.abc import Callable

import numpy as np

from model_handler import Features

__all__ = ["check_rows"]


def check_rows(features: Features, codes: np.ndarray | None = None, name_of: Callable[[int], str] = str) -> None:
    """Raise ValueError unless there are rows, all finite, and as many as `codes`; `name_of` names those at fault."""
    if codes is not None and len(codes) != len(features):
        raise ValueError(f"the data have {len(features)} rows and {len(codes)} labels; every row needs one label")
    for count, things in zip(features.shape, ("sample", "feature")):
        if count == 0:
            raise ValueError(f"Found 0 {things}(s) (shape={features.shape}) while a minimum of 1 is required.")
    mistakes = []
    for name, array in features.values.items():
        with np.errstate(invalid="ignore"):  # inf - inf
            if np.isfinite(array.sum(dtype=np.float64)):  # finite float32 values cannot overflow a float64 sum
                continue
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        kinds = " and ".join(
            kind for kind, found in (("NaN", np.isnan(array)), ("inf", np.isinf(array))) if found.any()
        )
        first = f"(row {', '.join(map(name_of, rows[:5].tolist()))}{', ...' if len(rows) > 5 else ''})"
        mistakes.append(f"layer {name!r} gives {kinds} in {len(rows)} of {len(array)} rows {first}")
    if mistakes:
        raise ValueError("; ".join(mistakes) + ". Look at these inputs, or at the preprocessing (transform)")
