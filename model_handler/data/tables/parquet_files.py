"""Columns are read from Parquet files, by the package pyarrow."""

from collections.abc import Sequence
from pathlib import Path

from model_handler.data.tables.columns import Columns, refuse_unknown_columns

__all__ = ["is_parquet", "read_parquet"]

_MAGIC = b"PAR1"


def is_parquet(file: Path) -> bool:
    """Return whether a file begins as one of Parquet does."""
    with open(file, "rb") as opened:
        return opened.read(len(_MAGIC)) == _MAGIC


def read_parquet(file: Path, wanted: Sequence[str]) -> Columns:
    """Read some columns, with the types that they have; a missing cell is None.

    Raises ImportError where pyarrow is not installed, ValueError for a damaged file, and for one that lacks a column or
    has no row.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(
            f"Parquet files need pyarrow: pip install 'repurpose-torch[arrow]' ({error}); or save {file} as CSV"
        ) from error

    try:
        with ParquetFile(file) as opened:
            names = list(opened.schema_arrow.names)
            refuse_unknown_columns(str(file), names, wanted)
            read = opened.read(columns=list(wanted))
    except (ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {error}") from error
    if not len(read):
        raise ValueError(f"{file} has no rows")
    cells = {name: read.column(name).to_pylist() for name in wanted}
    return Columns(str(file), names, cells, lambda row: f"row {row}")
