"""Features are written as Parquet, for tools that read such, by the package pyarrow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from model_handler.features.features import Features
from model_handler.files.whole_files import make_folder
from model_handler.files.write_errors import writing

__all__ = ["write_parquet"]

_LABEL, _PATH = "label", "path"

Block = tuple[Features, Sequence[str] | None]


def write_parquet(path: Path, blocks: Iterator[Block], widths: Mapping[str, int]) -> None:
    """Write blocks of features and paths to one file, a row group each, as a whole or not at all.

    Raises as `ShardedFeatures.to_parquet` does.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise ImportError(f"Parquet files need pyarrow: pip install 'repurpose-torch[arrow]' ({error})") from error
    if taken := sorted({_LABEL, _PATH} & set(widths)):
        raise ValueError(f"a layer is called {taken[0]!r}, as a column for the rows is; load the features instead")
    make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.writing-{uuid4().hex[:12]}")
    writer = None
    try:
        with writing(path):
            for block in blocks:
                table = pa.table(_columns(pa, *block))
                writer = writer or ParquetWriter(fresh, table.schema)
                writer.write_table(table.cast(writer.schema))
            if writer is not None:
                writer.close()
                with open(fresh, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(fresh, path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _columns(pa: Any, features: Features, paths: Sequence[str] | None) -> dict[str, Any]:
    columns = {} if paths is None else {_PATH: pa.array(paths, pa.string())}
    if features.labels is not None:
        columns[_LABEL] = pa.array(features.labels.tolist())
    for name, values in features.values.items():
        numbers = pa.array(np.ascontiguousarray(values).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(numbers, values.shape[1])
    return columns
