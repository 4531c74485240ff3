"""`repurpose suggest` says which images of a pool to label next, and copies them to where they are labelled."""

import shutil
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from rich.table import Table

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.screen import console, shown
from repurpose.cli.reading.images import Images, OnError, OnErrorOption, images_at

__all__ = ["suggest"]


class Method(StrEnum):
    """How images are chosen."""

    AUTO = "auto"
    EPIG = "epig"
    VARIANCE = "variance"
    MARGIN = "margin"


def suggest(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    pool: Annotated[
        list[Path], typer.Argument(help="A folder of images without labels, or one image or several; sub-folders too.")
    ],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many images to suggest.")] = 20,
    method: Annotated[
        Method, typer.Option(help="How they are chosen; auto is epig for a Gaussian process, else margin.")
    ] = Method.AUTO,
    copy_to: Annotated[
        Path | None,
        typer.Option(help="Copy the images to this new or empty directory, their rank in front of their names."),
    ] = None,
    on_error: OnErrorOption = OnError.RAISE,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
    ] = False,
) -> None:
    """Suggest which images of a pool to label next: those whose labels would teach most."""
    from model_handler.data.text.text_transform import reads_text
    from repurpose import Features, load

    if copy_to is not None:
        _check_is_free(copy_to)
    repurposer = load(saved, download=download)
    if not hasattr(repurposer, "suggest_labels"):
        raise UsageMistake(f"{saved} holds a {type(repurposer).__name__}, which has no labels to suggest")
    if reads_text(repurposer._reading()["transform"]):
        raise UsageMistake(f"{saved} was trained on texts, and the pool is one of images: use suggest_labels in Python")
    images = images_at(pool, on_error)
    features: Features = repurposer.features_to_judge(images.data)
    # Sub-folders of a pool are where images came from, such as days or cameras, and no labels.
    suggested = repurposer.suggest_labels(replace(features, labels=None), n, method.value)
    rows = suggested.to_dict("records")
    _show(rows, suggested.attrs, images)
    if copy_to is not None:
        _copy([images.files[row["position"]] for row in rows], copy_to)
        console.print(f"{len(rows)} images copied to [bold]{shown(quote(str(copy_to)))}[/]", soft_wrap=True)


def _check_is_free(directory: Path) -> None:
    """Raise OSError unless there is nothing at `directory`, or an empty directory."""
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; give a new or empty directory to copy to")
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; give a new or empty directory to copy to")


def _show(rows: list[dict[str, Any]], notes: dict[str, Any], images: Images) -> None:
    table = Table("image", "would be", "score")
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    names = images.names
    for row in rows:
        table.add_row(shown(names[row["position"]]), shown(str(row["label"])), f"{row['score']:.4f}")
    console.print(table)
    expected = f"over the {notes['n_rows']} images a log loss of {notes['expected_log_loss']:.3f} is expected"
    if "expected_drop" in notes:
        expected += (
            f"; these labels should take {notes['expected_drop']:.4f} ± {notes['expected_drop_error']:.4f} off it"
        )
    console.print(f"{expected} ({notes['method']})", soft_wrap=True)


def _copy(files: list[Path], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    width = len(str(len(files)))
    for rank, file in enumerate(files, start=1):
        shutil.copy2(file, directory / f"{rank:0{width}d}-{file.name}")
