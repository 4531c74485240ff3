"""`TableData`: rows of a table, each a text or the path of an image, with labels and groups in other columns."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.data.tables.columns import Columns
from model_handler.data.tables.csv_files import read_csv
from model_handler.data.tables.frames import columns_of_dataset, columns_of_frame, is_frame, is_hugging_face
from model_handler.data.tables.image_rows import image_rows
from model_handler.data.tables.parquet_files import is_parquet, read_parquet
from model_handler.errors import nearest, with_fix
from model_handler.missing_values import is_missing

__all__ = ["TableData", "as_table"]

_LABELS = ("label", "labels")  # what columns of labels are called in Hugging Face datasets


class TableData:
    """Rows of a table with named columns, given as data; the network that reads them says what they are.

    To a text network (whose transform is a `TextTransform`) its input is text, to any other the path of an image,
    relative to the folder of the table.

    Parameters
    ----------
    table : str, path, DataFrame or Hugging Face `datasets.Dataset`
        A CSV file (commas, semicolons or tabs, with a header) or a Parquet file (``pip install
        'repurpose-torch[arrow]'``), or a table in memory.
    input : str
        The column of texts or paths.
    label : str, optional
        The column of labels; without it rows have none. Those of a CSV are text, "3" too; others have their type.
    group : str, optional
        The column of groups, whose rows belong together.
    encoding : str
        How a CSV file is written.
    may_lack_labels : bool
        Whether labels may be missing: those are then None.

    Attributes
    ----------
    columns : list of str
        The names of all columns of the table.
    labels, groups : ndarray of shape (n_rows,), or None
        What their columns hold.
    classes : list of str or None
        The names of the labels 0, 1, ... where a Hugging Face dataset has such.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    ValueError
        If it is no such file, lacks a column (the nearest is named), is empty, or lacks labels in some rows, whose
        lines are named.
    ImportError
        If a Parquet file is given and pyarrow is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from model_handler import TableData
    >>> Path("reviews.csv").write_text("text,stars\\nA very good film,5\\nA bad one,1\\n")
    42
    >>> data = TableData("reviews.csv", input="text", label="stars")
    >>> data, data.labels.tolist()
    (TableData(reviews.csv: 2 rows; input 'text', label 'stars'), ['5', '1'])
    """

    def __init__(
        self,
        table: str | PathLike | Any,
        *,
        input: str,
        label: str | None = None,
        group: str | None = None,
        encoding: str = "utf-8-sig",
        may_lack_labels: bool = False,
    ) -> None:
        wanted = list(dict.fromkeys(name for name in (input, label, group) if name is not None))
        if mistaken := [name for name in wanted if not isinstance(name, str)]:
            raise TypeError(f"input, label and group must be names of columns, got {mistaken[0]!r}")
        self.input, self.label, self.group = input, label, group
        self._columns = _read(table, wanted, label, encoding)
        self.folder = Path(table).parent if isinstance(table, (str, PathLike)) else Path()
        self.columns = self._columns.names
        self.classes = self._columns.classes
        self.labels = self._labels(label, required=not may_lack_labels)
        self.groups = None if group is None else _as_array(_filled(self._columns.cells[group]))

    def __len__(self) -> int:
        return len(self.written)

    @property
    def shape(self) -> tuple[int]:
        """The number of rows, by which scikit-learn splits the data."""
        return (len(self),)

    def __getitem__(self, rows: Any) -> "TableData":
        """Return some of the rows, by a slice, numbers or a mask of shape (n_rows,)."""
        numbers = np.arange(len(self))[rows]
        if numbers.ndim != 1:
            raise TypeError(f"give a slice, numbers or a mask of rows, such as table[{rows}:{numbers + 1}] for one row")
        cells = {name: [column[row] for row in numbers] for name, column in self._columns.cells.items()}
        of_all = self._columns.row_name
        taken = copy(self)
        taken._columns = replace(self._columns, cells=cells, row_name=lambda row: of_all(int(numbers[row])))
        taken.labels = None if self.labels is None else self.labels[numbers]
        taken.groups = None if self.groups is None else self.groups[numbers]
        return taken

    def __repr__(self) -> str:
        named = {"input": self.input, "label": self.label, "group": self.group}
        parts = ", ".join(f"{kind} {name!r}" for kind, name in named.items() if name is not None)
        return f"TableData({self._columns.name}: {len(self)} row{'s' * (len(self) != 1)}; {parts})"

    @property
    def written(self) -> list[Any]:
        """The input of each row as it stands in the table."""
        return self._columns.cells[self.input]

    def labelled(self, labels: Any) -> "TableData":
        """Return the same rows with other labels, shape (n_rows,). Raises ValueError for another number of them."""
        if len(labels) != len(self):
            raise ValueError(f"the table has {len(self)} rows and there are {len(labels)} labels; every row needs one")
        relabelled = copy(self)
        relabelled.labels, relabelled.classes = labels, None
        return relabelled

    def texts(self) -> list[str]:
        """Return the input of each row as text. Raises ValueError for rows without, TypeError for what is no text."""
        cells = self.written
        self._refuse_missing(cells, self.input, 'leave these rows out, or put the empty string "" there')
        if others := [row for row, cell in enumerate(cells) if not isinstance(cell, str)]:
            raise TypeError(
                f"{self._columns.name} has no text in the column {self.input!r}, {self._columns.row_name(others[0])}, "
                f"but {type(cells[others[0]]).__name__}; name a column of text by input="
            )
        return cells

    def files(self) -> list[Any]:
        """Return the input of each row as the path of a file, images in memory as they are.

        Raises ValueError for rows without a path.
        """
        cells = _filled(self.written)
        self._refuse_missing(cells, self.input, "fill them in or delete them")
        return [self.folder / cell if isinstance(cell, str) else cell for cell in cells]

    def _labels(self, label: str | None, *, required: bool) -> np.ndarray | None:
        if label is None:
            return None
        cells = _filled(self._columns.cells[label])
        if required:
            self._refuse_missing(cells, label, "fill them in or delete them")
        return _as_array(cells)

    def _refuse_missing(self, cells: Sequence[Any], column: str, fix: str) -> None:
        if missing := [row for row, cell in enumerate(cells) if is_missing(cell)]:
            raise ValueError(
                f"{self._columns.name} has {len(missing)} rows without a {column} ({self._columns.places(missing)}); "
                f"{fix}"
            )


def as_table(data: object) -> object:
    """Return a Hugging Face dataset as a `TableData`: its one column of text, and labels if it has such; others as is.

    One of images, and a stream, is a torch Dataset. Raises TypeError where it has several columns of text, or none.
    """
    if (rows := image_rows(data)) is not None:
        return rows
    if not is_hugging_face(data):
        return data
    features: dict[str, Any] = data.features  # type: ignore[attr-defined]
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    label = next((name for name in _LABELS if name in features), None)
    inputs = [name for name in texts if name != label]
    if len(inputs) != 1:
        raise TypeError(
            f"the dataset has {'several columns' if inputs else 'no column'} of text, of {list(features)}: name the "
            "one to read, TableData(dataset, input=..., label=...)"
        )
    return TableData(data, input=inputs[0], label=label)


def _read(table: Any, wanted: list[str], label: str | None, encoding: str) -> Columns:
    if is_hugging_face(table):
        return columns_of_dataset(table, wanted, label)
    if is_frame(table):
        return columns_of_frame(table, wanted)
    if not isinstance(table, (str, PathLike)):
        raise TypeError(
            f"a table must be the path of a CSV or Parquet file, a pandas DataFrame or a Hugging Face Dataset, got "
            f"{type(table).__name__}"
        )
    file = Path(table)
    if not file.is_file():
        raise _no_file(file)
    return read_parquet(file, wanted) if is_parquet(file) else read_csv(file, wanted, encoding)


def _no_file(file: Path) -> FileNotFoundError:
    if file.is_dir():
        said = f"{fspath(file)!r} is a folder, and a table is a CSV or Parquet file"
        return with_fix(FileNotFoundError, said, python="a folder of images is an ImageFolderData")
    beside = [path.name for path in file.parent.iterdir() if path.is_file()] if file.parent.is_dir() else []
    near = f"; nearest there: {', '.join(nearest(file.name, beside))}" if beside else ""
    return FileNotFoundError(f"there is no table {fspath(file)!r}, which would be a CSV or Parquet file{near}")


def _filled(cells: Sequence[Any]) -> list[Any]:
    """Return cells without blanks around text, None for those that are empty."""
    stripped = (cell.strip() if isinstance(cell, str) else cell for cell in cells)
    return [None if cell == "" or is_missing(cell) else cell for cell in stripped]


def _as_array(cells: list[Any]) -> np.ndarray:
    if any(cell is None for cell in cells):
        return np.array([*cells, ""], dtype=object)[:-1]
    return np.asarray(cells)
