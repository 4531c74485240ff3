"""Rows beside their given labels and those that fit better, the worst first, as a table."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["label_table"]


def label_table(
    codes: np.ndarray, probabilities: np.ndarray, classes: np.ndarray, judged_by: str
) -> "DataFrame | ResultTable":
    """Return the table of `find_label_errors`, for rows whose labels are `classes[codes]`.

    `probabilities` (n_rows, n_classes) are NaN for rows that were not judged, which come into `attrs` instead. If k
    labels are called wrong whose probabilities of being right are p_i, sum p_i of them are expected to be right.
    """
    from repurpose.selection.results.tables import as_table  # its package imports all methods

    of_given = probabilities[np.arange(len(codes)), codes]
    worst_first = np.argsort(of_given, kind="stable")  # NaN comes last
    rows = worst_first[: np.isfinite(of_given).sum()]
    columns = {
        "row": rows,
        "given": classes[codes[rows]],
        "suggested": classes[probabilities[rows].argmax(axis=1)],
        "probability": of_given[rows],
        "estimated_false_alarms": np.cumsum(of_given[rows]) / np.arange(1, len(rows) + 1),
    }
    table = [dict(zip(columns, row)) for row in zip(*(column.tolist() for column in columns.values()))]
    not_judged = np.flatnonzero(~np.isfinite(of_given)).tolist()
    return as_table(table, {"judged_by": judged_by, "not_judged": not_judged})
