"""Gross outliers among training rows are clipped into the range of the others before anything is learned.

They come from a sensor that failed, or a code such as 999999 for what is missing.

Heads have one scale a layer, by which mean squares are brought to a fixed size: a single cell of 1e6 would leave all
other rows as one point at the origin. Before anything is learned, cells of such rows are clipped to the range that
their column has in the other rows (winsorising; Tukey 1962), so that scales, means and covariances are those of
ordinary rows and what was right in a row stays. A row that is out of range in most cells that are not 0 is drawn in to
the distance of ordinary rows instead, and keeps its direction. All others come back as they are, bit for bit: the
limits lie far beyond what features of images show.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from model_handler import Features
from model_handler.errors import first_few, with_fix
from model_handler.user_warnings import warn_user
from repurpose.data.scaling import at_least_once

__all__ = ["bring_back_outliers", "without_outliers"]

_ORDINARY = 0.8  # of the rows at least: these set the measure
_TIMES_THEIR_DISTANCE = 30.0  # pooled features of photographs, drawings and characters reach 4
# A single feature of four rows of a table came to 200 times by chance; and where many rows are far, their values may
# mean something, such as documents that repeat a word.
_TIMES_OF_FEW, _FEW = 300.0, 6
_USUAL_SHARE = 0.02  # of the rows, or one of them
_TIMES_THEIR_NORM = 3.0  # or tight clusters, and rows that hardly differ, would make an outlier of any other row


@dataclass(frozen=True, eq=False)
class _Found:
    """Outliers of one layer.

    `rows` (n_outliers,) are `away` (n_outliers, n_features) from the `medians` (n_features,); most other rows are
    within `reach` of these.
    """

    rows: np.ndarray
    away: np.ndarray
    medians: np.ndarray
    reach: float


def bring_back_outliers(
    features: Features, codes: np.ndarray, weights: np.ndarray | None = None, name_of: Callable[[int], str] = str
) -> Features:
    """Return training features whose outliers lie in the range of the other rows, with a UserWarning that names them.

    In a layer a row is one if it is 30 times as far from the median of the rows as four fifths of them (300 times where
    fewer than six are away from it, or more than 2 % of the rows are so far), if its furthest cell is so in its own
    column, and if its norm is 3 times that of four fifths. So no more than a fifth of the rows is found. Of fewer than
    three rows none is, and none of those that are most of the rows of their class, of two rows or more: that is what
    the class is like. Rows count by `at_least_once`; their order does not matter.

    Parameters
    ----------
    features : Features
        All finite. It comes back itself where there are no outliers, and is never changed.
    codes : int ndarray of shape (n_samples,)
        The classes.
    weights : ndarray of shape (n_samples,), optional
    name_of : callable, optional
        What the warning calls a row, by its place among these; see `repurpose.data.row_names`.
    """
    counts = np.ones(len(features)) if weights is None else at_least_once(weights)
    brought, said = dict(features.values), []
    for layer, array in features.values.items():
        if (found := _outliers(array, codes, counts)) is not None:
            brought[layer] = _brought_back(array, found)
            worst = array[found.rows, np.abs(found.away).argmax(axis=1)]
            rows = [f"{value:g} in row {name_of(row)}" for row, value in zip(found.rows.tolist(), worst)]
            said.append(
                f"layer {layer!r}, most rows of which lie within {found.reach:.3g} of their median: "
                f"{first_few(rows, 5)}"
            )
    if not said:
        return features
    layers = "; in ".join(said[:3]) + ("; ..." if len(said) > 3 else "")
    message = f"outliers in {layers}. Training takes these values brought into the range of the others"
    advice = "look at these inputs: correct them, or leave them out"
    warn_user(with_fix(UserWarning, message, python=advice, shell=advice))
    return replace(features, values=brought)


def without_outliers(array: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return rows (n_samples, n_features) of one layer as `bring_back_outliers` does, without a word."""
    found = _outliers(array, codes, np.ones(len(array)))
    return array if found is None else _brought_back(array, found)


def _outliers(array: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> _Found | None:
    """Find the outliers of rows (n_samples, n_features), of classes `codes`, that count `counts` (n_samples,) times."""
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    far = norms > _TIMES_THEIR_NORM * _reach(norms, counts)
    if counts.sum() < 3 or not far.any():  # nearly always: medians take longer
        return None
    medians = _medians(array, counts)
    away = array - medians
    distances = np.linalg.norm(away, axis=1)
    reach = _reach(distances, counts)
    far &= _beyond(_TIMES_THEIR_DISTANCE, distances, np.abs(away), counts)
    if counts[distances > 0].sum() < _FEW or counts[far].sum() > max(1, _USUAL_SHARE * counts.sum()):
        far &= _beyond(_TIMES_OF_FEW, distances, np.abs(away), counts)
    of_class, of_these = np.bincount(codes, counts), np.bincount(codes, counts * far)
    rows = np.flatnonzero(far & ((of_class < 2) | (of_these <= of_class / 2))[codes])
    return _Found(rows, away[rows], medians, reach) if len(rows) else None


def _beyond(times: float, distances: np.ndarray, away: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Find which rows (n_samples,) are so many times as far as the others, and their furthest cell in its column, too.

    Most rows of a table may have 0 in a column of amounts, and those that have an amount are no outliers for that.
    """
    far = distances > times * _reach(distances, counts)
    worst = away[far].argmax(axis=1)
    reach = {column: _reach(away[:, column], counts) for column in np.unique(worst).tolist()}
    reaches = np.array([reach[column] for column in worst.tolist()])
    far[far] = ~np.isfinite(reaches) | (away[far].max(axis=1) > times * reaches)
    return far


def _reach(sizes: np.ndarray, counts: np.ndarray) -> float:
    """Find the size that 4/5 of the sizes (n_samples,) above 0, or all but one of few, do not exceed; inf for < 2.

    What is 0 tells no scale: rows of a layer that hardly ever fires.
    """
    order = np.argsort(sizes)[(sizes == 0).sum() :]
    until = counts[order].cumsum()
    if len(order) < 2:
        return np.inf
    place = min(_ORDINARY * until[-1], until[-1] - 2)
    return float(sizes[order][np.searchsorted(until, place, side="right")])


def _medians(array: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the median of each column, of two middle ones the lower: float64 (n_features,)."""
    if (counts == 1).all():
        middle = (len(array) - 1) // 2
        return np.partition(array, middle, axis=0)[middle].astype(np.float64)
    order = np.argsort(array, axis=0)
    middle = (counts[order].cumsum(axis=0) >= counts.sum() / 2).argmax(axis=0)
    columns = np.arange(array.shape[1])
    return array[order[middle, columns], columns].astype(np.float64)


def _brought_back(array: np.ndarray, found: _Found) -> np.ndarray:
    """Return a copy whose outliers lie among the other rows.

    On digits and drawings at 2 and 5 labels a class, clipping a broken cell cost LR, SVM and GP nothing, while without
    the row the log loss rose by up to .14; rows that were too large as a whole did harm in the corners of the range.
    """
    ordinary, outliers = np.delete(array, found.rows, axis=0), array[found.rows]
    clipped = outliers.clip(ordinary.min(axis=0), ordinary.max(axis=0))
    is_whole = (clipped != outliers).sum(axis=1) > 0.5 * (outliers != 0).sum(axis=1)
    drawn_in = found.medians + found.away * (found.reach / np.linalg.norm(found.away, axis=1, keepdims=True))
    brought = array.copy()
    brought[found.rows] = np.where(is_whole[:, None], drawn_in, clipped)
    return brought
