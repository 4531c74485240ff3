"""The class report has recall, precision and rows of each class, and says which classes are taken for which.

A mean over all rows hides a rare class: with 95 rows of one class and 5 of another, an accuracy of .95 may mean that
the second is never recognised.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self

import numpy as np

from repurpose.uncertainty.intervals import share_interval

__all__ = ["MEASURES_HEAD", "Cells", "ClassReport", "aligned", "html_table", "measures_text", "printable"]

Cells = tuple[str, ...]
MEASURES_HEAD = ("", "value", "95 % interval", "interval by")  # above the measures of an evaluation

_MAX_CLASSES = 20  # in the printed table of classes, the worst first when there are more
_WIDEST_CONFUSION = 12  # classes in a printed confusion table; pairs are listed when there are more
_MAX_PAIRS = 10


@dataclass(frozen=True, eq=False, repr=False)
class ClassReport:
    """Recall, precision and confusion of each class, in the order of `names`; NaN for what no row tells.

    Attributes
    ----------
    names : tuple of str
        What is shown for each class.
    counts : int ndarray of shape (n_classes,)
        Rows that truly are of each class.
    recall, precision : ndarray of shape (n_classes,)
        The share of the rows of a class that were recognised, and of the rows taken for it that were right.
    recall_intervals, precision_intervals : ndarray of shape (n_classes, 2)
        95 % intervals (Clopper and Pearson).
    confusion : int ndarray of shape (n_classes, n_classes)
        Rows of true class i that were taken for class j.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.uncertainty import ClassReport
    >>> report = ClassReport.of(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"])
    >>> report.recall.round(2), report.confusion.tolist()
    (array([0.67, 1.  ]), [[2, 1], [0, 1]])
    """

    names: tuple[str, ...]
    counts: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    recall_intervals: np.ndarray
    precision_intervals: np.ndarray
    confusion: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Self:
        """Return the report on rows of true and predicted classes (n_samples,), coded by the position in `names`."""
        n_classes = len(names)
        confusion = np.bincount(codes * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
        right, counts, taken = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
        return cls(
            names=tuple(names),
            counts=counts,
            recall=_ratios(right, counts),
            precision=_ratios(right, taken),
            recall_intervals=_intervals(right, counts),
            precision_intervals=_intervals(right, taken),
            confusion=confusion,
        )

    def __repr__(self) -> str:
        return "\n\n".join("\n".join([title, *aligned(head, rows)]) for title, head, rows in self.tables())

    def _repr_html_(self) -> str:
        return "".join(html_table(title, head, rows) for title, head, rows in self.tables())

    def tables(self) -> Iterator[tuple[str, Cells, list[Cells]]]:
        """Yield title, heading and rows of what is shown: the classes, and their confusions."""
        yield self._classes()
        if len(self.names) <= _WIDEST_CONFUSION:
            names = self._shown
            rows = [(name, *map(str, counts)) for name, counts in zip(names, self.confusion.tolist())]
            yield "rows of each true class (down) taken for each class (across)", ("", *names), rows
        elif pairs := self._frequent_confusions():
            yield "most frequent confusions", ("true class", "taken for", "rows"), pairs

    @property
    def _shown(self) -> list[str]:
        """The names, each in one line."""
        return [printable(name) for name in self.names]

    def _classes(self) -> tuple[str, Cells, list[Cells]]:
        order, title = np.arange(len(self.names)), "classes"
        if len(order) > _MAX_CLASSES:
            order = np.argsort(self.recall, kind="stable")[:_MAX_CLASSES]  # NaN, which no row tells, comes last
            title = f"the {_MAX_CLASSES} classes of lowest recall, of {len(self.names)}"
        head = ("", "rows", "recall", "95 % interval", "precision", "95 % interval")
        return title, head, [self._row(int(code)) for code in order]

    def _row(self, code: int) -> Cells:
        recall = _with_interval(self.recall[code], self.recall_intervals[code])
        return (
            self._shown[code],
            str(self.counts[code]),
            *recall,
            *_with_interval(self.precision[code], self.precision_intervals[code]),
        )

    def _frequent_confusions(self) -> list[Cells]:
        names, wrong = self._shown, self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_PAIRS]
        pairs = [divmod(int(place), len(self.names)) for place in order]
        return [(names[true], names[taken], str(wrong[true, taken])) for true, taken in pairs if wrong[true, taken]]


def printable(name: str) -> str:
    """Return a name in one line: what would break it or command the terminal, as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


def _ratios(hits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(rows == 0, np.nan, hits / np.maximum(rows, 1))


def _intervals(hits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    nothing = (np.nan, np.nan)
    return np.array([share_interval(hit, row) if row else nothing for hit, row in zip(hits.tolist(), rows.tolist())])


def _with_interval(value: float, interval: np.ndarray) -> Cells:
    return ("-", "") if np.isnan(value) else (f"{value:.3f}", f"{interval[0]:.3f} to {interval[1]:.3f}")


def aligned(head: Cells, rows: list[Cells]) -> list[str]:
    """Return lines of columns of equal width: the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    first, *others = widths
    return [
        "  ".join([f"{line[0]:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(line[1:], others))]).rstrip()
        for line in lines
    ]


def measures_text(heading: str, titles: Iterable[str], rows: Iterable[Cells]) -> str:
    """Return an evaluation's measures in lines, `rows` under `MEASURES_HEAD`; `titles` are all that rows may have."""
    width = max(map(len, titles))
    lines = [
        f"{title:<{width}}  {value:>8}  {interval:<16}  {by}" for title, value, interval, by in (MEASURES_HEAD, *rows)
    ]
    return "\n".join([heading, *lines])


def html_table(title: str, head: Cells, rows: list[Cells]) -> str:
    """Return a table in HTML."""
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><tr>{heading}</tr>{body}</table>"
