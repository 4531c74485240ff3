"""The state of a watch as JSON text, with a hash of itself, which holds all that a resumed watch needs to know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from model_handler.errors import CorruptFileError, FormatVersionError
from model_handler.files.canonical_json import JsonValue, parse_with_own_hash, with_own_hash
from repurpose.labelling.watching.betting import N_BETS, Capital
from repurpose.labelling.watching.grids import MOST_CELLS
from repurpose.labelling.watching.judges import CERTAINTY, UNFAMILIARITY
from repurpose.labelling.watching.martingale import Curve, Martingale
from repurpose.labelling.watching.target_error import TargetError, weight_levels
from repurpose.version import DISTRIBUTION

__all__ = ["MOST_BYTES", "WatchState", "read_state", "state_text"]

MOST_BYTES = 20_000
_KIND, _FORMAT = "watch", 1


@dataclass(frozen=True, eq=False)
class WatchState:
    """All that a watch knows of a stream, of which no row is kept; it is never changed.

    Attributes
    ----------
    fingerprint : str
        Of what rows are judged by.
    alpha : float
    method : str
        By which rows are unfamiliar.
    seed : int
        Of the numbers that break ties, from 0 to 1 each.
    n_resets : int
        How many tests there were before this one.
    martingales : dict of str to Martingale
    source_errors, source_rows : int
        Of the rows to compare with, those that the head gets wrong, and all.
    tolerance : float
        By how much the error may be larger in the stream.
    target : TargetError
    """

    fingerprint: str
    alpha: float
    method: str
    seed: int
    n_resets: int
    martingales: Mapping[str, Martingale]
    source_errors: int
    source_rows: int
    tolerance: float
    target: TargetError

    @property
    def n_rows(self) -> int:
        """How many rows of the stream were seen since the test began."""
        return next(iter(self.martingales.values())).capital.n_rows


def state_text(state: WatchState) -> str:
    """Return the text of a state, of 20 kB at most."""
    return with_own_hash(
        {
            "kind": _KIND,
            "format": _FORMAT,
            "fingerprint": state.fingerprint,
            "alpha": state.alpha,
            "method": state.method,
            "seed": state.seed,
            "n_resets": state.n_resets,
            "martingales": {name: _of_martingale(martingale) for name, martingale in state.martingales.items()},
            "source": [state.source_errors, state.source_rows],
            "tolerance": state.tolerance,
            "target": _of_target(state.target),
        }
    )


def read_state(text: bytes | bytearray, what: str) -> WatchState:
    """Read what `state_text` wrote; `what` names where it came from.

    Raises CorruptFileError for any other text, and FormatVersionError for one of a newer version.
    """
    if len(text) > MOST_BYTES:
        raise CorruptFileError(
            f"{what} is no state of a watch: it has {len(text):,} bytes, where {MOST_BYTES:,} is most"
        )
    whole = parse_with_own_hash(text, what)
    if whole.get("kind") != _KIND:
        raise CorruptFileError(f"{what} is no state of a watch, as Watch.save writes it")
    if isinstance(whole.get("format"), int) and whole["format"] > _FORMAT:
        raise FormatVersionError(f"{what} has the format {whole['format']}, newer than this {DISTRIBUTION} knows")
    try:
        return _state_of(whole)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise CorruptFileError(f"{what} is damaged: {error}") from error


def _of_martingale(martingale: Martingale) -> JsonValue:
    return {
        "grid": martingale.grid.tolist(),
        "reference": martingale.reference.tolist(),
        "stream": (martingale.counts - martingale.reference).tolist(),
        "log_stakes": martingale.capital.log_stakes.tolist(),
        "largest": martingale.largest,
        "alarm_row": martingale.alarm_row,
        "curve": [martingale.curve.stride, *martingale.curve.values],
    }


def _of_target(target: TargetError) -> JsonValue:
    return {
        "least_probability": target.least_probability,
        "rows": target.n_rows.tolist(),
        "errors": target.n_errors.tolist(),
        "largest": target.largest,
        "alarm_row": target.alarm_row,
    }


def _state_of(whole: Mapping[str, Any]) -> WatchState:
    martingales = {name: _martingale(whole["martingales"][name]) for name in whole["martingales"]}
    n_rows = {martingale.capital.n_rows for martingale in martingales.values()}
    if not martingales or not set(martingales) <= {UNFAMILIARITY, CERTAINTY} or len(n_rows) > 1:
        raise ValueError("its martingales are none, or of different streams")
    source_errors, source_rows = (_count(number) for number in whole["source"])
    return WatchState(
        fingerprint=_text(whole["fingerprint"]),
        alpha=_number(whole["alpha"], lambda alpha: 0 < alpha < 1),
        method=_text(whole["method"]),
        seed=_count(whole["seed"]),
        n_resets=_count(whole["n_resets"]),
        martingales=martingales,
        source_errors=_count(source_errors, source_rows),
        source_rows=source_rows,
        tolerance=_number(whole["tolerance"], lambda tolerance: 0 <= tolerance < 1),
        target=_target(whole["target"]),
    )


def _martingale(found: Mapping[str, Any]) -> Martingale:
    grid = np.array([_number(limit) for limit in found["grid"]])
    if not 0 < len(grid) < MOST_CELLS or (np.diff(grid) <= 0).any():
        raise ValueError(f"a grid does not rise, or has {len(grid)} limits")
    reference, stream = _counts(found["reference"], len(grid) + 1), _counts(found["stream"], len(grid) + 1)
    n_rows, log_stakes = int(stream.sum()), np.array([_number(stake) for stake in found["log_stakes"]])
    if len(log_stakes) != N_BETS:
        raise ValueError(f"there are {len(log_stakes)} stakes, where {N_BETS} are expected")
    stride, *values = found["curve"]
    return Martingale(
        grid,
        reference,
        reference + stream,
        Capital(n_rows, log_stakes),
        _number(found["largest"], lambda largest: largest >= 0),
        _row_or_none(found["alarm_row"], n_rows),
        Curve(max(_count(stride), 1), tuple(map(_number, values))),
    )


def _target(found: Mapping[str, Any]) -> TargetError:
    least = found["least_probability"]
    if least is not None:
        _number(least, lambda probability: 0 < probability < 1)
    n_levels = len(weight_levels(least))
    rows, errors = _counts(found["rows"], n_levels), _counts(found["errors"], n_levels)
    if (errors > rows).any():
        raise ValueError("there are more errors than rows")
    largest = _number(found["largest"], lambda largest: largest >= 0)
    return TargetError(least, rows, errors, largest, _row_or_none(found["alarm_row"], int(rows.sum())))


def _number(value: object, is_right: Callable[[float], bool] = isfinite) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value) or not is_right(float(value)):
        raise ValueError(f"{str(value)[:20]!r} stands where another number belongs")
    return float(value)


def _count(value: object, most: int = 2**53) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:20]!r} stands where a count belongs")
    return value


def _counts(values: object, n_values: int) -> np.ndarray:
    if not isinstance(values, list) or len(values) != n_values:
        raise ValueError(f"there are not {n_values} counts where so many belong")
    return np.array([_count(value) for value in values], dtype=np.int64)


def _row_or_none(value: object, n_rows: int) -> int | None:
    return None if value is None else max(1, _count(value, n_rows))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:20]!r} stands where a text belongs")
    return value
