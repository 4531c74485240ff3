"""The tables that commands read are CSV or Parquet files: a column of paths of images, or of texts, and one of labels.

Which of the two the first is, the network says; the rows are read by `TableData`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["LABEL", "PATH", "TEXT", "ListedRows", "holds_texts", "read_groups", "read_table"]

PATH, TEXT, LABEL = "path", "text", "label"  # the names of the columns where none are given


@dataclass(frozen=True)
class ListedRows:
    """Paths or texts as they are written, the files that paths mean (none for texts), and labels, one each a row.

    A label is empty text where there is none. `places` are the rows of the table, None for all of them.
    """

    written: list[str]
    files: list[Path]
    labels: list[str] | None
    places: list[int] | None = None


def read_table(
    file: Path,
    input_column: str | None,
    label_column: str | None,
    *,
    labelled: bool,
    reads_text: bool = False,
    may_lack_column: bool = False,
) -> ListedRows:
    """Return the rows of a table, as `TableData` reads them.

    Its labels are needed where `labelled` says so, or where their column is named and not `may_lack_column`; otherwise
    they are taken if there is a column of that name, LABEL where none is given.

    Raises FileNotFoundError, ImportError for Parquet without pyarrow, and ValueError for a table that lacks a column or
    has no row, for rows without a path or text, and where `labelled` for rows without a label.
    """
    from repurpose import TableData

    column = input_column or (TEXT if reads_text else PATH)
    label: str | None = label_column or LABEL
    is_needed = labelled or (label_column is not None and not may_lack_column)
    if not is_needed and label not in TableData(file, input=column).columns:
        label = None
    table = TableData(file, input=column, label=label, may_lack_labels=not labelled)
    if reads_text:
        written, files = table.texts(), []
    else:
        files = table.files()
        written = [str(cell).strip() for cell in table.written]
    labels = None if table.labels is None else ["" if each is None else str(each) for each in table.labels.tolist()]
    return ListedRows(written, files, labels)


def holds_texts(file: Path) -> bool:
    """Tell whether a table has a column called TEXT, and none called PATH. Raises FileNotFoundError for no table."""
    from repurpose import TableData

    try:
        return PATH not in TableData(file, input=TEXT).columns
    except ValueError:  # without that column; what else is wrong with the table is told where it is read
        return False


def read_groups(file: Path, input_column: str, group_column: str, places: Sequence[int] | None) -> np.ndarray:
    """Return the codes of the groups of some rows of a table, or of all: (n_rows,).

    Raises ValueError for a table without the column, and for groups that are missing or all the same.
    """
    from repurpose import TableData
    from repurpose.data.groups import given_groups, group_codes

    table = TableData(file, input=input_column, group=group_column)
    return group_codes(given_groups(table if places is None else table[np.array(places)]))
