"""What the commands print with: one console, and the tables and messages that several of them share."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["confusion_table", "console", "scores", "show_error"]

console = Console(highlight=False)


def show_error(error: Exception) -> None:
    """Print the message of an error to stderr, in red and without its traceback."""
    message = str(error) or type(error).__name__
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] [red]{escape(message)}[/]", soft_wrap=True)


def scores(labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> str:
    """Accuracy and log loss in one phrase; `probabilities` is (n_samples, n_classes) with the columns of `classes`."""
    from sklearn.metrics import log_loss

    accuracy = np.mean(classes[probabilities.argmax(axis=1)] == labels)
    return f"accuracy {accuracy:.3f}, log loss {log_loss(labels, probabilities, labels=classes):.3f}"


def confusion_table(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[object]) -> Table:
    """A row for each true class, a column for each predicted one; empty where nothing was counted."""
    from sklearn.metrics import confusion_matrix

    table = Table("true \\ predicted", *(escape(str(name)) for name in classes), title="Confusion table")
    for column in table.columns:
        column.justify = "right"
    for row, counts in enumerate(confusion_matrix(labels, predicted, labels=classes)):
        cells = [str(count) if count else "" for count in counts]
        cells[row] = f"[green]{counts[row]}[/]"
        table.add_row(escape(str(classes[row])), *cells)
    return table
