"""`repurpose predict`: labels and probabilities for a folder of images or a single one."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from repurpose.cli.screen import console

if TYPE_CHECKING:
    from model_handler import ImageFolderData

__all__ = ["predict"]


def predict(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    images: Annotated[Path, typer.Argument(help="A folder of images, flat or one sub-folder a class, or one image.")],
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write path, label and a column of probabilities for each class to this file."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each image.")] = 3,
    on_error: Annotated[str, typer.Option(help="For an unreadable image: raise, or skip and report it.")] = "raise",
) -> None:
    """Predict the classes of images with what train saved."""
    from repurpose import ImageFolderData, load
    from repurpose.persistence.directory import check_parents

    if csv_file is not None:  # before the network runs
        if csv_file.is_dir():
            raise IsADirectoryError(f"--csv must name a file, and {csv_file} is a directory")
        check_parents(csv_file)
    repurposer = load(saved)
    folder = ImageFolderData(images, on_error=on_error) if not images.is_file() else None
    probabilities = repurposer.predict_probability(images if folder is None else folder)
    paths = [images] if folder is None else folder.paths
    if csv_file is not None:
        _write_csv(csv_file, paths, probabilities, repurposer.classes_)
        console.print(f"{len(paths)} predictions written to [bold]{escape(str(csv_file))}[/]")
    else:
        console.print(_table(paths, probabilities, repurposer.classes_, top))
    if folder is not None:
        _report_folder(folder, repurposer.classes_[probabilities.argmax(axis=1)], repurposer.classes_)


def _write_csv(file: Path, paths: list[Path], probabilities: np.ndarray, classes: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label", *classes])
        for path, row in zip(paths, probabilities.tolist()):
            writer.writerow([path, classes[int(np.argmax(row))], *row])


def _table(paths: list[Path], probabilities: np.ndarray, classes: np.ndarray, top: int) -> Table:
    """A row for each image: its `top` most likely classes, the most likely first."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    table = Table("image", "label", "probability", *(["then"] if best.shape[1] > 1 else []))
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for path, row, codes in zip(paths, probabilities, best):
        others = ", ".join(f"{classes[code]} {row[code]:.3f}" for code in codes[1:])
        cells = [escape(str(path)), f"[bold]{escape(str(classes[codes[0]]))}[/]", f"{row[codes[0]]:.3f}"]
        table.add_row(*cells, *([escape(others)] if others else []))
    return table


def _report_folder(folder: "ImageFolderData", predicted: np.ndarray, classes: np.ndarray) -> None:
    """What a folder tells beyond its predictions: the accuracy where it has classes, and the files left out."""
    if folder.labels is not None:
        right = predicted.astype(str) == folder.labels
        console.print(f"accuracy {right.mean():.3f} ({right.sum()} of {len(right)}), by the names of the sub-folders")
        known = {str(name) for name in classes}
        if strangers := [name for name in folder.classes or [] if name not in known]:
            console.print(f"[yellow]never seen in training, so counted as wrong:[/] {escape(', '.join(strangers))}")
    for path in folder.skipped:
        console.print(f"[yellow]skipped, unreadable:[/] {escape(str(path))}")
