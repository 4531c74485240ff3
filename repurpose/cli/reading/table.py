"""The tables that commands read are CSV or Parquet files: a column of paths of images, or of texts, and one of labels.

Which of the two the first is, the network says; the rows are read by `TableData`.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["LABEL", "PATH", "TEXT", "ListedRows", "read_table"]

PATH, TEXT, LABEL = "path", "text", "label"  # the names of the columns where none are given


@dataclass(frozen=True)
class ListedRows:
    """Paths or texts as they are written, the files that paths mean (none for texts), and labels, one each a row.

    A label is empty text where there is none.
    """

    written: list[str]
    files: list[Path]
    labels: list[str] | None


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
