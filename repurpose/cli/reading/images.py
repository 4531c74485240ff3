"""The images a command is about come from a folder, some files, or the rows of a table, which may be texts as well."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.screen import aside, shown
from repurpose.cli.reading.table import LABEL, PATH, TEXT, ListedRows, read_groups, read_table

__all__ = [
    "FolderArgument",
    "GroupColumn",
    "Images",
    "InputColumn",
    "LabelColumn",
    "OnError",
    "OnErrorOption",
    "TableOption",
    "check_is_folder",
    "check_one_given",
    "groups_in_table",
    "image_files",
    "images_at",
    "images_in_table",
    "labelled_images",
]


class OnError(StrEnum):
    """How an image that cannot be read is handled."""

    RAISE = "raise"
    SKIP = "skip"


OnErrorOption = Annotated[
    OnError, typer.Option(help="What an unreadable image does: end the work with an error, or stay out with a warning.")
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        help="A CSV or Parquet file: paths of images, relative to its own folder, or texts for a text network, and "
        "labels.",
        metavar="FILE",
    ),
]
InputColumn = Annotated[
    str | None,
    typer.Option(
        "--input-column",
        "--path-column",
        help="The column of paths or texts in tables.",
        metavar="NAME",
        show_default=f"{PATH}, of texts {TEXT}",
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(help="The column of labels in tables.", metavar="NAME", show_default=LABEL)
]


FolderArgument = Annotated[Path | None, typer.Argument(help="A folder of images, one sub-folder a class.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="The column of groups in the table, such as patients or cameras: their rows are held out together.",
        metavar="NAME",
    ),
]


@dataclass(frozen=True)
class Images:
    """Images as the methods of a Repurposer take them (`data`): an ImageFolderData, or files and perhaps labels.

    Of a table for a text network they are texts, and `kind` is "texts".
    """

    data: Any
    listed: ListedRows | None = None
    kind: str = "images"

    @property
    def names(self) -> list[str]:
        """How each image was named; of a folder without those skipped so far."""
        return self.listed.written if self.listed else [str(path) for path in self.data.paths]

    @property
    def files(self) -> list[Path]:
        """The file of each image, in the order of `names`."""
        return self.listed.files if self.listed else [Path(path) for path in self.data.paths]

    @property
    def labels(self) -> list[str] | None:
        """The true label of each, empty where a table has none; None where there are none at all."""
        if self.listed:
            return self.listed.labels
        return None if self.data.labels is None else self.data.labels.tolist()

    @property
    def known_labels(self) -> list[str | None]:
        """The true label of each, None where it has none."""
        return [None] * len(self.names) if self.labels is None else [label or None for label in self.labels]


def images_at(paths: list[Path], on_error: OnError) -> Images:
    """Open a folder, or files. Raises FileNotFoundError, and UsageMistake for a folder beside other things."""
    from repurpose import ImageFolderData

    if len(paths) == 1 and not paths[0].exists():
        raise FileNotFoundError(f"there is no file or folder {str(paths[0])!r}")
    folders = [path for path in paths if path.is_dir()]
    if len(folders) == len(paths) == 1:
        return Images(ImageFolderData(paths[0], on_error=on_error.value))
    if folders:
        raise UsageMistake(f"give one folder, or any number of images; {folders[0]} is a folder beside others")
    return _listed(ListedRows([str(path) for path in paths], paths, None), on_error)


def image_files(paths: list[Path], on_error: OnError) -> list[Path]:
    """Return the images of a folder, or these files, where there are such; see `images_at`.

    With SKIP all are decoded, and those that cannot be are left out with a warning.
    """
    images = images_at(paths, on_error)
    if images.listed:
        return images.listed.files
    return _usable(ListedRows(images.names, images.data.paths, None), on_error).files


def images_in_table(
    file: Path,
    input_column: str | None,
    label_column: str | None,
    on_error: OnError,
    *,
    labelled: bool,
    reads_text: bool = False,
    may_lack_column: bool = False,
) -> Images:
    """Return the images or texts of a table; see `read_table`. With `labelled` every one of them has a label."""
    rows = read_table(
        file,
        input_column,
        label_column,
        labelled=labelled,
        reads_text=reads_text,
        may_lack_column=may_lack_column,
    )
    if reads_text:
        return Images(rows.written if rows.labels is None else (rows.written, rows.labels), rows, "texts")
    return _listed(rows, on_error)


def groups_in_table(images: Images, table: Path | None, input_column: str | None, group_column: str) -> np.ndarray:
    """Return the codes of the groups of the images or texts of a table; see `read_groups`.

    Raises UsageMistake without a table.
    """
    if table is None or images.listed is None:
        raise UsageMistake(f"--group-column {group_column} names a column of a --table, and there is none")
    column = input_column or (TEXT if images.kind == "texts" else PATH)
    return read_groups(table, column, group_column, images.listed.places)


def check_one_given(folder: Path | None, table: Path | None) -> None:
    """Raise UsageMistake unless there is one of the two."""
    if (folder is None) == (table is None):
        raise UsageMistake("give a folder of images, or a --table of them" + (", not both" if folder else ""))


def labelled_images(
    folder: Path | None,
    table: Path | None,
    input_column: str | None,
    label_column: str | None,
    on_error: OnError,
    *,
    reads_text: bool = False,
) -> Images:
    """Return the images to learn from, of the one that is given, a folder of a sub-folder a class or a table.

    Raises ValueError, before any network runs, unless there are two classes.
    """
    if folder is not None:
        return _labelled_folder(folder, on_error)
    if table is None:
        raise UsageMistake("give a folder of images, or a --table of them")
    rows = images_in_table(table, input_column, label_column, on_error, labelled=True, reads_text=reads_text)
    return _labelled_table(rows, table)


def check_is_folder(folder: Path) -> None:
    """Raise NotADirectoryError for a file, FileNotFoundError for what is not there."""
    if folder.is_file():
        raise NotADirectoryError(
            f"{folder} is a file; give a folder with one sub-folder a class, or a table of images: --table FILE"
        )
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")


def _labelled_folder(folder: Path, on_error: OnError) -> Images:
    check_is_folder(folder)
    images = images_at([folder], on_error)
    classes = images.data.classes or []
    if len(classes) < 2:
        found = f"only one, {classes[0]!r}" if classes else "images and no sub-folders"
        raise ValueError(f"{folder} must have one sub-folder a class, at least two of them; it has {found}")
    return images


def _labelled_table(images: Images, table: Path) -> Images:
    if len(classes := set(images.labels or [])) < 2:
        raise ValueError(f"{table} must have {images.kind} of at least two classes; it has only one, {classes.pop()!r}")
    return images


def _listed(images: ListedRows, on_error: OnError) -> Images:
    kept = _usable(images, on_error)
    return Images(kept.files if kept.labels is None else (kept.files, kept.labels), kept)


def _usable(images: ListedRows, on_error: OnError) -> ListedRows:
    """Return the images that are there and, where others are to be skipped, can be read; those left out are told of."""
    if on_error is OnError.RAISE:
        if missing := [path for path, file in zip(images.written, images.files) if not file.is_file()]:
            first = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise FileNotFoundError(f"{len(missing)} of {len(images.files)} images are not there: {first}")
        return images
    reasons = [_why_unreadable(file) for file in images.files]
    kept = [number for number, reason in enumerate(reasons) if not reason]
    unreadable = "\n".join(filter(None, reasons))
    if not kept:
        raise ValueError(f"none of the {len(reasons)} images can be read:\n{unreadable}")
    if unreadable:
        counted = f"{len(reasons) - len(kept)} of {len(reasons)} images were skipped:\n{unreadable}"
        aside.print(f"[yellow]Warning:[/] {shown(counted)}", soft_wrap=True)
    return ListedRows(
        [images.written[number] for number in kept],
        [images.files[number] for number in kept],
        None if images.labels is None else [images.labels[number] for number in kept],
        kept,
    )


def _why_unreadable(file: Path) -> str:
    """Say why an image cannot be read; "" where it can. It is decoded for this, and again by the network's loader."""
    import torch

    from model_handler.data.images import UnreadableImageError, transformed

    try:
        transformed(file, lambda image: torch.empty(0))
    except UnreadableImageError as error:
        return f"{file} cannot be read as an image: {error}"
    return ""
