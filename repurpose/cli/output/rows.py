"""Rows of results are written as CSV, a column for each of their names."""

import csv
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["Row", "as_csv"]

Row = dict[str, Any]


def as_csv(rows: Sequence[Row]) -> bytes:
    """Return rows that have the same names as CSV in UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # names of files are bytes, and come back as they are
