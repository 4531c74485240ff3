"""Tables with and without pandas hold the same."""

import sys

import pytest

from repurpose.selection.results.tables import ResultTable, as_table

ROWS = [{"source": "a<b", "loss": 0.123456}, {"source": "c", "error": "why"}]


def test_with_pandas_a_table_is_a_dataframe_with_its_notes() -> None:
    pandas = pytest.importorskip("pandas")
    table = as_table(ROWS, {"n_rows": 7})
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["source", "loss", "error"]
    assert table.attrs == {"n_rows": 7}


def test_without_pandas_it_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = as_table(ROWS, {"n_rows": 7})
    assert isinstance(table, ResultTable)
    assert table.columns == ["source", "loss", "error"]
    assert table["loss"] == [0.123456, None]
    assert table.to_dict("records")[1] == {"source": "c", "loss": None, "error": "why"}
    assert (len(table), table.attrs) == (2, {"n_rows": 7})
    assert repr(table).splitlines() == ["source    loss  error", "   a<b  0.1235       ", "     c            why"]
    assert "<td>a&lt;b</td><td>0.1235</td>" in table._repr_html_()


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(KeyError, match=r"'nll'.*'source'"):
        ResultTable(ROWS)["nll"]
    with pytest.raises(ValueError, match="records"):
        ResultTable(ROWS).to_dict("list")
