"""`Columns` are some columns of a table by name, with where each row stands, for messages."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_handler.errors import first_few, nearest, with_fix

__all__ = ["Columns", "refuse_unknown_columns"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Some columns of a table called `name`: `cells` by column, each with one entry a row; `names` are those of all.

    `row_name` says where a row stands, such as "line 4"; `classes` are names of labels that are their places.
    """

    name: str
    names: list[str]
    cells: Mapping[str, list[Any]]
    row_name: Callable[[int], str]
    classes: list[str] | None = None

    def places(self, rows: Sequence[int]) -> str:
        """Say where some rows stand, no more than five of them."""
        return first_few([self.row_name(row) for row in rows], 5)


def refuse_unknown_columns(table: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise ValueError for wanted columns that a table does not have, with the nearest ones, or has more than once."""
    all_of_them = f"its columns are {', '.join(names)}" if names else "it has no columns"
    if missing := [name for name in wanted if name not in names]:
        near = [f"{name!r}{f' (nearest: {nearest(name, names, 1)[0]!r})' if names else ''}" for name in missing]
        is_of_texts = "path" in missing and "text" in names
        of_texts = "; texts are for a network that reads them, such as the source minilm" if is_of_texts else ""
        raise with_fix(
            ValueError,
            f"{table} has no column {', nor '.join(near)}; {all_of_them}",
            python="name them by input=, label= and group=",
            shell=f"name them by --input-column, --label-column and --group-column{of_texts}",
        )
    counts = Counter(names)
    if twice := [name for name in wanted if counts[name] > 1]:
        raise ValueError(f"{table} has more than one column {twice[0]!r}; {all_of_them}")
