"""The predictions of `repurpose predict` are shown as a table on the screen, and written as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.markup import escape
from rich.table import Table

from repurpose.cli.output.outputs import write_result
from repurpose.cli.output.screen import shown

__all__ = ["Predictions", "beginning", "probability_column_names"]

_SHOWN = 60  # characters of a text


@dataclass(frozen=True, eq=False)
class Predictions:
    """The name of each image, its label (or None) and the probability of each class, (n_images, n_classes).

    `more` are the columns beside these, by their titles. Predictions `of_texts` have the texts in place of names.
    """

    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: Sequence[object]
    more: dict[str, list[str]]
    of_texts: bool = False

    def table(self, top: int) -> Table:
        """Make a row for each image: its `top` most likely classes, likeliest first, and what else was asked for."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :top]
        first, then = "text" if self.of_texts else "image", ["then"] if best.shape[1] > 1 else []
        table = Table(first, "label", "probability", *then, *self.more)
        table.columns[0].overflow = "fold"
        table.columns[2].justify = "right"
        for name, label, row, codes, *others in zip(
            self.names, self.labels, self.probabilities, best, *self.more.values()
        ):
            others_likely = ", ".join(f"{self.classes[code]} {row[code]:.3f}" for code in codes[1:])
            likeliest = shown(str(self.classes[codes[0]]))  # whose probability it is that stands beside
            answer = f"no answer ({likeliest})" if label is None else f"[bold]{shown(label)}[/]"
            cells = [f"{row[codes[0]]:.3f}", *([others_likely] if others_likely else []), *others]
            named = name if not self.of_texts else beginning(name)
            table.add_row(shown(named), answer, *map(escape, cells))
        return table

    def write_csv(self, target: str) -> None:
        """Write all of it as CSV in UTF-8 to a file, or to standard output; no label is an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text)
        first = ["text" if self.of_texts else "path", "label"]
        writer.writerow([*first, *probability_column_names(self.classes, [*first, *self.more]), *self.more])
        for name, label, row, *cells in zip(self.names, self.labels, self.probabilities.tolist(), *self.more.values()):
            writer.writerow([name, label, *row, *cells])
        # names of files are bytes, and come back as they are
        write_result(target, text.getvalue().encode("utf-8", "surrogateescape"))


def beginning(text: str) -> str:
    """Return as much of a text as a line of the screen has room for."""
    words = " ".join(text[: 4 * _SHOWN].split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def probability_column_names(classes: Sequence[object], others: Sequence[str]) -> list[str]:
    """Return the title of each class's column of probabilities: its name, or `probability (NAME)` if that is taken.

    `others` are the titles of the other columns. So every title is there once, and "label" is the predicted label even
    where a class is called that.
    """
    titles, taken = [], {*map(str, classes), *others}
    for title in map(str, classes):
        if title in others:
            while title in taken:
                title = f"probability ({title})"
            taken.add(title)
        titles.append(title)
    return titles
