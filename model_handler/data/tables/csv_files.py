"""Columns are read from CSV files, whose cells commas, semicolons or tabs separate, as spreadsheets write them."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from model_handler.data.tables.columns import Columns, refuse_unknown_columns
from model_handler.errors import with_fix

__all__ = ["read_csv"]

_SEPARATORS = ",;\t"
_LONGEST_CELL = 2**31 - 1  # by default the module refuses texts of more than 128 KB
_LIMIT = Lock()  # the limit belongs to the whole process

_Rows = list[tuple[int, list[str]]]


def read_csv(file: Path, wanted: Sequence[str], encoding: str) -> Columns:
    """Read some columns; blank lines are left out, and a cell that a row lacks is None.

    Raises ValueError for what is no CSV in this encoding, lacks a column or has no row, and for rows with more cells
    than there are columns.
    """
    names, rows = _read(file, encoding)
    refuse_unknown_columns(str(file), names, wanted)
    if not rows:
        raise ValueError(f"{file} has no rows below its header")
    if longer := [line for line, cells in rows if any(cell.strip() for cell in cells[len(names) :])]:
        raise ValueError(
            f"{file} has {len(longer)} rows with more cells than its {len(names)} columns, the first at line "
            f"{longer[0]}: put cells that contain the separator into quotation marks"
        )
    places = {name: names.index(name) for name in wanted}
    cells = {name: [row[place] if place < len(row) else None for _, row in rows] for name, place in places.items()}
    lines = [line for line, _ in rows]
    return Columns(str(file), names, cells, lambda row: f"line {lines[row]}")


def _read(file: Path, encoding: str) -> tuple[list[str], _Rows]:
    """Return the names of the columns, and the rows with the numbers of their lines."""
    try:
        with open(file, newline="", encoding=encoding) as opened, _long_cells():
            separator = max(_SEPARATORS, key=opened.readline().count)
            opened.seek(0)
            reader = csv.reader(opened, delimiter=separator, strict=True)
            names = [name.strip() for name in next(reader, [])]
            return names, [(reader.line_num, row) for row in reader if row]
    except UnicodeError as error:
        was = "UTF-8" if encoding.startswith("utf-8") else encoding
        raise with_fix(
            ValueError,
            f"{file} is not text in {was}; save it as CSV in UTF-8",
            python=f"or give its own: encoding={_likely_encoding(file)!r}, for instance",
            between=", ",
        ) from error
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}; usual ones are 'utf-8', 'latin-1', 'utf-16'") from error
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV: {error}") from error


@contextmanager
def _long_cells() -> Iterator[None]:
    with _LIMIT:
        limit = csv.field_size_limit(_LONGEST_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


def _likely_encoding(file: Path) -> str:
    """Name an encoding that text which is not UTF-8 may have: by its first bytes UTF-16, or Latin-1."""
    with open(file, "rb") as opened:
        return "utf-16" if opened.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
