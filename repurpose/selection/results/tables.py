"""Results are tables: a DataFrame where pandas is installed, and else a small table that shows itself alike."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ResultTable", "as_table"]

Row = Mapping[str, Any]


class ResultTable:
    """Rows by the names of their columns, shown as text or HTML; what stands in place of a DataFrame without pandas.

    Attributes
    ----------
    rows : list of dict
        One a row, each with every column; None where a row has no value.
    columns : list of str
    attrs : dict
        What holds for the whole table, as the attribute of that name of a DataFrame.
    """

    def __init__(self, rows: Sequence[Row], attrs: Mapping[str, Any] | None = None) -> None:
        self.columns = list(dict.fromkeys(name for row in rows for name in row))
        self.rows = [{name: row.get(name) for name in self.columns} for row in rows]
        self.attrs = dict(attrs or {})

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """Return the values of a column, from the first row to the last."""
        if column not in self.columns:
            raise KeyError(f"there is no column {column!r}; there are {self.columns}")
        return [row[column] for row in self.rows]

    def to_dict(self, orient: str = "records") -> list[dict[str, Any]]:
        """Return the rows, as `DataFrame.to_dict("records")` does. Raises ValueError for another layout."""
        if orient != "records":
            raise ValueError(f"orient must be 'records', got {orient!r}; other layouts need pandas: pip install pandas")
        return [dict(row) for row in self.rows]

    def __repr__(self) -> str:
        cells = [self.columns, *([_shown(row[name]) for name in self.columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_shown(row[name]))}</td>' for name in self.columns)}</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_table(rows: Sequence[Row], attrs: Mapping[str, Any] | None = None) -> "DataFrame | ResultTable":
    """Return rows as a DataFrame, in the order of the columns of the first; without pandas, as a `ResultTable`.

    `attrs` are what holds for the whole table, and its attribute of that name.
    """
    try:
        from pandas import DataFrame
    except ImportError:
        return ResultTable(rows, attrs)
    table = DataFrame(list(rows))
    table.attrs.update(attrs or {})
    return table


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
