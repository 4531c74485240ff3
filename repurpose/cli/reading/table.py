"""A table of images is a CSV file with a column of paths, relative to its own folder, and one of labels."""

import csv
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LABEL", "PATH", "ImageTable", "read_table"]

PATH, LABEL = "path", "label"  # the names of the columns where none are given
_SEPARATORS = ",;\t"  # spreadsheets of many countries write semicolons

_Rows = list[tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class ImageTable:
    """Paths as they are written, the files they mean, and labels (empty text where there is none), one each a row."""

    written: list[str]
    files: list[Path]
    labels: list[str] | None


def read_table(
    file: Path, path_column: str, label_column: str | None, *, labelled: bool, may_lack_column: bool = False
) -> ImageTable:
    """Return the rows of a CSV file, separated by commas, semicolons or tabs; blank lines are left out.

    Their column is needed where `labelled` says so, or where it is named and not `may_lack_column`; otherwise labels
    are taken if there is a column of that name, LABEL where none is given.

    Raises FileNotFoundError, and ValueError for a table that is no CSV, lacks a column or has no row, for rows without
    a path, and where `labelled` for rows without a label.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no table {str(file)!r}; --table takes a CSV file")
    columns, rows = _read(file)
    needed = {"--path-column": path_column}
    if labelled or (label_column is not None and not may_lack_column):
        needed["--label-column"] = label_column or LABEL
    if missing := [f"{name!r} ({option} NAME names another)" for option, name in needed.items() if name not in columns]:
        raise ValueError(f"{file} has no column {', nor '.join(missing)}; its columns are {', '.join(columns)}")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{file} has more than one column {twice[0]!r}; its columns are {', '.join(columns)}")
    if not rows:
        raise ValueError(f"{file} has no rows below its header")
    paths = _column(file, rows, path_column, must_be_filled=True)
    labels = _column(file, rows, label_column or LABEL, must_be_filled=labelled)
    files = [file.parent / path for path in paths]
    return ImageTable(paths, files, labels if (label_column or LABEL) in columns else None)


def _read(file: Path) -> tuple[list[str], _Rows]:
    """Return the names of the columns, and the rows with the numbers of their lines."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as opened:
            separator = max(_SEPARATORS, key=opened.readline().count)
            opened.seek(0)
            reader = csv.DictReader(opened, delimiter=separator, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            return columns, [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV: {error}") from error


def _column(file: Path, rows: _Rows, column: str, *, must_be_filled: bool) -> list[str]:
    cells = [(row.get(column) or "").strip() for _, row in rows]
    empty = [str(line) for (line, _), cell in zip(rows, cells) if not cell]
    if must_be_filled and empty:
        lines = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise ValueError(f"{file} has {len(empty)} rows without a {column} (line {lines}); fill them in or delete them")
    return cells
