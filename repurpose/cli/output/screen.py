"""The commands print with one console for results and one for what is said beside them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.table import Table

from model_handler.errors import text_for_shell

__all__ = ["aside", "confusion_table", "console", "scores", "show_error", "shown", "warnings_on_screen"]

_UNFOLDED = 100_000  # columns


class _Screen(Console):
    """A console that neither folds nor cuts what goes to a file or a pipe."""

    @property
    def size(self) -> ConsoleDimensions:
        return super().size if self.file.isatty() else ConsoleDimensions(_UNFOLDED, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


console = _Screen(highlight=False)
aside = _Screen(highlight=False, stderr=True)


def shown(text: object) -> str:
    """Escape text for rich; bytes of a file name that are no text become ?, as no screen can show them."""
    return escape(str(text).encode("utf-8", "replace").decode())


def show_error(error: Exception) -> None:
    """Print the message of an error to stderr, in red and without its traceback, with the advice for this place."""
    aside.print(f"[bold red]Error:[/] [red]{shown(text_for_shell(error))}[/]", soft_wrap=True)


@contextmanager
def warnings_on_screen() -> Iterator[None]:
    """Print warnings to stderr as they come, each once, in a line of its own instead of beside a line of code."""
    told = set()  # what holds of a copy that is measured is said again of what is saved

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = text_for_shell(message) if isinstance(message, Warning) else message
        if text in told:
            return
        told.add(text)
        aside.print(f"[yellow]Warning:[/] {shown(text)}", soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def scores(labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> str:
    """Write accuracy and log loss in a phrase; `probabilities` is (n_samples, n_classes), columns as in `classes`."""
    from sklearn.metrics import log_loss

    accuracy = np.mean(classes[probabilities.argmax(axis=1)] == labels)
    return f"accuracy {accuracy:.3f}, log loss {log_loss(labels, probabilities, labels=classes):.3f}"


def confusion_table(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[object]) -> Table:
    """Return a row for each true class, a column for each predicted one; empty where nothing was counted."""
    from sklearn.metrics import confusion_matrix

    table = Table("true \\ predicted", *(escape(str(name)) for name in classes), title="Confusion table")
    for column in table.columns:
        column.justify = "right"
    for row, counts in enumerate(confusion_matrix(labels, predicted, labels=classes)):
        cells = [str(count) if count else "" for count in counts]
        cells[row] = f"[green]{counts[row]}[/]"
        table.add_row(escape(str(classes[row])), *cells)
    return table
