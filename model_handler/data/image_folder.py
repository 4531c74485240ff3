"""`ImageFolderData`: a folder of images on disk, one sub-folder a class."""

import os
import warnings
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.data.batch import Batch, Batches, Share
from model_handler.data.images import NO_TRANSFORM, UnreadableImageError, image_batches
from model_handler.data.listing import FolderListing, image_suffixes
from model_handler.data.reading import Reading
from model_handler.errors import first_few, with_fix

__all__ = ["ImageFolderData"]

ON_ERROR = ("raise", "skip")


class ImageFolderData:
    """The images of a folder, in a fixed order: sub-folders by name, files by name within each (at any depth).

    Every sub-folder is a class, whose name is the label of its images; a flat folder has no labels. Hidden entries are
    ignored; files that are no images by their suffix are left out with a warning that counts them. A folder is read
    once: links to folders are followed, except to a parent or to a folder that is read under its own name, which gives
    a warning. The files are listed at once and read when iterated.

    Parameters
    ----------
    path : str or Path
        The folder.
    transform : callable, optional
        From a PIL image in RGB to a tensor; by default the source network's own preprocessing is used.
    on_error : "raise" or "skip"
        What an image that cannot be read does: it raises an error, or is left out with a warning at the end.

    Attributes
    ----------
    paths : list of Path
        The images, without those skipped so far.
    labels : array of str, shape (len(paths),), or None
        The class of each.
    classes : list of str or None
        The names of the class folders.
    skipped : list of Path
        The images that turned out to be unreadable.
    left_out : dict of str to int
        How many files were no images, by their suffix in lower case, such as ``{".txt": 2}``.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    OSError
        If a folder cannot be listed, such as PermissionError.
    ValueError
        If `on_error` is unknown, the folder or a class folder has no images, or images lie beside class folders.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from model_handler import ImageFolderData
    >>> for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
    ...     Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
    ...     Image.new("RGB", (8, 8)).save(Path("photos", name))
    ...
    >>> data = ImageFolderData("photos")
    >>> data.classes, data.labels.tolist(), data.paths[2].as_posix()
    (['cat', 'dog'], ['cat', 'cat', 'dog'], 'photos/dog/1.png')
    """

    def __init__(
        self, path: str | PathLike, transform: Callable[[Any], Any] | None = None, on_error: str = "raise"
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {list(ON_ERROR)}, got {on_error!r}")
        self.path = Path(path)
        self.transform = transform
        self.on_error = on_error
        self._files, self.classes, self.left_out = _list_images(self.path)
        self._bad: dict[int, str] = {}  # file number: why it cannot be read
        self._announced: set[int] = set()

    @property
    def paths(self) -> list[Path]:
        """The images in order, without those skipped so far."""
        return [self._files[index] for index in self._readable_indices()]

    @property
    def labels(self) -> np.ndarray | None:
        """The class name of each of `paths`, or None for a flat folder."""
        labels = self._all_labels()
        return None if labels is None else labels[list(self._readable_indices())]

    @property
    def rows(self) -> np.ndarray:
        """The numbers of `paths` among all files listed, shape (len(paths),): those that rows are asked for by."""
        return np.array(list(self._readable_indices()), dtype=np.int64)

    @property
    def skipped(self) -> list[Path]:
        """The images that could not be read, in order, as far as they have been met."""
        return [self._files[index] for index in sorted(self._bad)]

    def batches(self, *, transform: Callable[[Any], Any] | None, reading: Reading) -> Batches:
        """Return batches of the images; `transform` serves where the folder has none of its own.

        The number of a row is that of its file among all files listed, the skipped ones included.

        Reading them raises UnreadableImageError (a ValueError) naming the file, or with ``on_error="skip"`` ValueError
        if no file at all can be read.
        """
        used = self.transform or transform
        if used is None:
            raise ValueError(f"{self.path}: {NO_TRANSFORM}")

        def start(share: Share) -> Iterator[Batch]:
            skip, rows = self.on_error == "skip", self._rows_to_read(reading)
            try:
                yield from image_batches(
                    self._files, self._all_labels(), used, reading, rows=rows, share=share, skip=skip
                )
            except UnreadableImageError as error:
                raise with_fix(
                    UnreadableImageError,
                    f"{error}; remove it, or leave such files out",
                    python=f'ImageFolderData({str(self.path)!r}, on_error="skip")',
                    shell="--on-error skip",
                    between=": ",
                ) from None

        return Batches(start, len(self._rows_to_read(reading)), f"the folder {self.path}", self._note_skipped)

    def __len__(self) -> int:
        return len(self._files) - len(self._bad)

    def __repr__(self) -> str:
        classes = "no classes" if self.classes is None else f"{len(self.classes)} classes"
        skipped = f", {len(self._bad)} skipped" if self._bad else ""
        return f"ImageFolderData({str(self.path)!r}: {len(self)} images, {classes}{skipped})"

    def _readable_indices(self) -> Iterator[int]:
        return (index for index in range(len(self._files)) if index not in self._bad)

    def _rows_to_read(self, reading: Reading) -> np.ndarray:
        """Return the numbers of the files to read, in order, without those known to be unreadable."""
        asked = reading.numbers(len(self._files))
        return asked[[number not in self._bad for number in asked.tolist()]] if self._bad else asked

    def _all_labels(self) -> np.ndarray | None:
        if self.classes is None:
            return None
        return np.array([file.relative_to(self.path).parts[0] for file in self._files], dtype=str)

    def _note_skipped(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Note the files that were left out of the batches passing by, and tell of them at the end."""
        for batch in batches:
            self._bad.update(batch.skipped)
            yield batch
        self._announce()

    def _announce(self) -> None:
        if len(self._bad) == len(self._files):
            reasons = "\n".join(list(self._bad.values())[:5])
            raise ValueError(
                f"none of the {len(self._files)} images in {self.path} can be read; the first of them:\n{reasons}"
            )
        if news := sorted(set(self._bad) - self._announced):
            self._announced.update(news)
            files = "\n".join(self._bad[index] for index in news)
            warnings.warn(
                f"{len(news)} of {len(self._files)} images in {self.path} were skipped:\n{files}", stacklevel=2
            )


def _list_images(folder: Path) -> tuple[list[Path], list[str] | None, dict[str, int]]:
    """Return the images of a folder, its classes, and what is left out by suffix. Raises as `ImageFolderData` does."""
    if not os.path.exists(folder):  # unlike Path.exists, also where the name is too long for a folder
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file; ImageFolderData takes a folder of images")
    found = FolderListing(folder)
    beside, below = found.beside, found.below
    filled = [name for name, images in below.items() if images]
    left_out = f"; left out: {found.describe_left_out()}" if found.left_out else ""
    if beside and filled:
        raise ValueError(
            f"{folder} has images ({first_few([path.name for path in beside])}) beside folders of images "
            f"({first_few(filled)}): are the folders classes? "
            "Move the images into a class folder, or give a folder that has one or the other"
        )
    if not beside and not filled:
        raise ValueError(
            f"{folder} has no images, neither directly nor in sub-folders; suffixes known: "
            f"{sorted(image_suffixes())}{left_out}"
        )
    empty = [name for name, images in below.items() if not images]
    if empty and not beside:
        raise ValueError(
            f"{folder} has class folders without images: {first_few(empty)}; fill them, or remove or hide "
            f"them{left_out}"
        )
    found.tell(stacklevel=3)
    if beside:
        return beside, None, dict(found.left_out)
    return [path for images in below.values() for path in images], list(below), dict(found.left_out)
