"""Screening: rows are read, those that do not meet the schema are left out, and features of the others are computed.

What cannot be read as a whole, such as a list with one broken image, is read row by row, so that only the rows at fault
are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from model_handler import Features
from model_handler.data import Batch, Batches
from model_handler.data.batch import take_rows
from model_handler.errors import ModelError
from repurpose.data.kinds import inputs_of, is_features, n_rows_in
from repurpose.data.kinds import take_rows as rows_by_number
from repurpose.serving.input_schema import InputSchemas, objections_to
from repurpose.serving.row_objections import RowObjections

__all__ = ["Screenable", "screen"]

_UNREADABLE = (TypeError, ValueError, OverflowError, OSError)  # what reading raises for what is no row


class Screenable(Protocol):
    """What screening needs of a Repurposer."""

    def rows_in_batches(self, data: object) -> Batches:
        """Read any data in batches, as they would be for prediction."""
        ...

    def features_to_judge(self, data: object) -> Features:
        """Compute the features of data for the head, whatever their values."""
        ...


def screen(
    repurposer: Screenable, data: object, schema: InputSchemas | None, unreadable: Mapping[int, str] | None = None
) -> tuple[RowObjections, Features | None]:
    """Judge the rows of data, and compute the features of those that are accepted, in their order; None if none is.

    A `Features` given as data has no inputs to judge; what it holds must be finite. Among the rows there may be
    `unreadable` ones, which are not in data: why, by their number. Raises what reading the data as a whole raises,
    where it cannot be read row by row either.
    """
    if unreadable:
        none_is_left = n_rows_in(data) == 0
        found, features = (RowObjections(0), None) if none_is_left else screen(repurposer, data, schema)
        return found.beside_unreadable(unreadable), features
    if is_features(data):
        given = repurposer.features_to_judge(data)
        found = RowObjections(len(given))
        return found, _finite_rows(given, found)
    objections, parts = [], []
    for read in _read(repurposer, data):
        if isinstance(read, str):
            found = RowObjections(1)
            found.refuse_all("unreadable", read)
        else:
            found = objections_to(read.inputs, schema, read.n_rows)
            if found.accepted.any() and (features := _features(repurposer, read, found)) is not None:
                parts.append(features)
        objections.append(found)
    return RowObjections.joined(objections), _joined(parts) if parts else None


def _read(repurposer: Screenable, data: object) -> Iterator[Batch | str]:
    """Yield the batches of data; where they cannot be read, the rest row by row, with a text for what is no row."""
    n_read = 0
    try:
        for batch in repurposer.rows_in_batches(data):
            yield batch
            n_read += batch.n_rows
        return
    except _UNREADABLE:
        inputs = inputs_of(data)
        n_rows = n_rows_in(inputs)
        if not n_rows or rows_by_number(inputs, np.arange(1)) is None:
            raise
    for number in range(n_read, n_rows):
        try:
            batches = list(repurposer.rows_in_batches(rows_by_number(inputs, np.array([number]))))
        except _UNREADABLE as error:
            yield str(error)
        else:
            yield from batches


def _features(repurposer: Screenable, batch: Batch, found: RowObjections) -> Features | None:
    """Return the features of the accepted rows of a batch; None where there are none, which refuses all of them."""
    try:
        features = repurposer.features_to_judge(_without(batch, found))
    except ModelError as error:  # such as integers for a network that takes no such
        found.refuse_all("failed", str(error))
        return None
    return _finite_rows(features, found)


def _without(batch: Batch, found: RowObjections) -> Batches:
    """Return the accepted rows of a batch, without labels, as data that are read already."""
    n_rows = int(found.accepted.sum())
    inputs = batch.inputs if n_rows == batch.n_rows else take_rows(batch.inputs, found.accepted)
    return Batches(lambda _: iter([Batch(inputs, None, n_rows)]), n_rows, "the accepted rows")


def _finite_rows(features: Features, found: RowObjections) -> Features | None:
    """Return the rows of features, those of the accepted rows, that are finite, or None; the others are refused."""
    finite = np.isfinite(features.matrix).all(axis=1)
    if finite.all():
        return features
    rows = np.zeros(len(found.accepted), dtype=bool)
    rows[np.flatnonzero(found.accepted)[~finite]] = True
    found.add(rows, "not finite", lambda _: "the network gives NaN or infinite values for it")
    return features[finite] if finite.any() else None


def _joined(parts: list[Features]) -> Features:
    names = parts[0].layer_names
    layers: Mapping[str, Any] = {name: np.concatenate([part.values[name] for part in parts]) for name in names}
    return Features(layers)
