"""`repurpose predict`: labels and probabilities for a folder of images or a single one, and what they are worth."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from repurpose.cli.screen import console

if TYPE_CHECKING:
    from model_handler import Features, ImageFolderData
    from repurpose import MetaModelRepurposer

__all__ = ["predict"]


def predict(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    images: Annotated[Path, typer.Argument(help="A folder of images, flat or one sub-folder a class, or one image.")],
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write path, label and a column of probabilities for each class to this file."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each image.")] = 3,
    abstain_below: Annotated[
        float, typer.Option(min=0, max=1, help="Give no label where no class has this probability.")
    ] = 0.0,
    coverage: Annotated[
        float | None, typer.Option(help="Add the set of labels that holds the right one so often, such as 0.9.")
    ] = None,
    p_values: Annotated[
        bool, typer.Option("--p-values", help="Add the share of familiar images that look as strange as this one.")
    ] = False,
    on_error: Annotated[str, typer.Option(help="For an unreadable image: raise, or skip and report it.")] = "raise",
) -> None:
    """Predict the classes of images with what train saved."""
    from repurpose import ImageFolderData, load
    from repurpose.class_names import names_of_labels
    from repurpose.persistence.directory import check_parents

    if csv_file is not None:  # before the network runs
        if csv_file.is_dir():
            raise IsADirectoryError(f"--csv must name a file, and {csv_file} is a directory")
        check_parents(csv_file)
    if coverage is not None and not 0 < coverage < 1:
        raise ValueError(f"--coverage must be above 0 and below 1, such as 0.9, got {coverage:g}")
    repurposer = load(saved)
    folder = ImageFolderData(images, on_error=on_error) if not images.is_file() else None
    # One pass through the network, of which every question below takes the result.
    features = repurposer.source_model_handler.extract(
        images if folder is None else folder, repurposer.feature_layer_names_, pooling=repurposer.pooling
    )
    paths, classes = [images] if folder is None else folder.paths, repurposer.class_names_
    probabilities = repurposer.predict_probability(features)
    labels = names_of_labels(repurposer, repurposer.predict_label(features, abstain_below=abstain_below))
    more = _more(repurposer, features, coverage, p_values)
    if csv_file is not None:
        _write_csv(csv_file, paths, labels, probabilities, classes, more)
        console.print(f"{len(paths)} predictions written to [bold]{escape(str(csv_file))}[/]")
    else:
        console.print(_table(paths, labels, probabilities, classes, top, more))
    if folder is not None:
        _report_folder(folder, labels, repurposer)


def _more(
    repurposer: "MetaModelRepurposer", features: "Features", coverage: float | None, p_values: bool
) -> dict[str, list[str]]:
    """The columns that were asked for beside labels and probabilities, by their titles."""
    columns = {}
    if coverage is not None:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            sets = repurposer.predict_set(features, coverage)
        for warning in raised:
            console.print(f"[yellow]{escape(str(warning.message))}[/]")
        columns[f"set ({coverage:g})"] = [", ".join(names) for names in sets.names]
    if p_values:
        columns["p-value"] = [f"{value:.3g}" for value in repurposer.unfamiliarity_p_value(features)]
    return columns


def _write_csv(
    file: Path,
    paths: Sequence[Path],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: np.ndarray,
    more: dict[str, list[str]],
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["path", "label", *classes, *more])
        for path, label, row, *cells in zip(paths, labels, probabilities.tolist(), *more.values()):
            writer.writerow([path, label, *row, *cells])  # no label is an empty cell


def _table(
    paths: Sequence[Path],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: np.ndarray,
    top: int,
    more: dict[str, list[str]],
) -> Table:
    """A row for each image: its `top` most likely classes, the most likely first, and what else was asked for."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    table = Table("image", "label", "probability", *(["then"] if best.shape[1] > 1 else []), *more)
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for path, label, row, codes, *others in zip(paths, labels, probabilities, best, *more.values()):
        then = ", ".join(f"{classes[code]} {row[code]:.3f}" for code in codes[1:])
        name = "no answer" if label is None else f"[bold]{escape(str(label))}[/]"
        cells = [f"{row[codes[0]]:.3f}", *([then] if then else []), *others]
        table.add_row(escape(str(path)), name, *map(escape, cells))
    return table


def _report_folder(folder: "ImageFolderData", predicted: np.ndarray, repurposer: "MetaModelRepurposer") -> None:
    """What a folder tells beyond its predictions: the accuracy where it has classes, and the files left out."""
    from repurpose.class_names import names_of_given

    given = np.array([label is not None for label in predicted])
    if not given.all():
        console.print(f"{given.sum()} of {len(given)} images have a likely enough class")
    if folder.labels is not None and given.any():
        right = predicted[given] == np.array(names_of_given(repurposer, folder.labels[given].tolist()), dtype=object)
        console.print(f"accuracy {right.mean():.3f} ({right.sum()} of {len(right)}), by the names of the sub-folders")
        known = repurposer.class_names_.tolist()
        if strangers := [name for name in names_of_given(repurposer, folder.classes or []) if name not in known]:
            console.print(f"[yellow]never seen in training, so counted as wrong:[/] {escape(', '.join(strangers))}")
    for path in folder.skipped:
        console.print(f"[yellow]skipped, unreadable:[/] {escape(str(path))}")
