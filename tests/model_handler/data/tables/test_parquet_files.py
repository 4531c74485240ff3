"""Parquet files are read by pyarrow, with the types of their columns."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from model_handler import TableData


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"text": ["good", None], "label": [1, 0], "other": [0.5, 1.5]})
    frame.to_parquet(tmp_path / "reviews.pq")
    return tmp_path / "reviews.pq"


def test_columns_keep_their_types(file: Path) -> None:
    data = TableData(file, input="text", label="label", group="other")
    assert (data.labels.tolist(), data.labels.dtype.kind, data.groups.tolist()) == ([1, 0], "i", [0.5, 1.5])
    assert data.columns == ["text", "label", "other"]
    with pytest.raises(ValueError, match=r"reviews.pq has 1 rows without a text \(row 1\)"):
        data.texts()
    with pytest.raises(ValueError, match=r"no column 'labels' \(nearest: 'label'\)"):
        TableData(file, input="text", label="labels")


def test_what_is_damaged_or_empty_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"reviews.pq cannot be read as Parquet"):
        TableData(file, input="text")
    pd.DataFrame({"text": []}).to_parquet(file)
    with pytest.raises(ValueError, match=r"reviews.pq has no rows"):
        TableData(file, input="text")


def test_without_pyarrow_the_command_that_installs_it_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'repurpose-torch\[arrow\]'.*or save .* as CSV"):
        TableData(file, input="text")
