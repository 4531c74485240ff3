"""`as_batches` alone asks what kind of data it was given, and turns every kind into batches of rows.

The kinds themselves are read in `loaders`, `images` and `image_folder`; `batch` has what a batch is.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model_handler.data.arrays import as_array, refuse_masked
from model_handler.data.batch import (
    Batch,
    Batches,
    Parts,
    Share,
    as_labels,
    as_parts,
    count_rows,
    numbered,
    of_reading,
    take_rows,
)
from model_handler.data.image_folder import ImageFolderData
from model_handler.data.images import (
    CHANNELS,
    NO_TRANSFORM,
    UnreadableImageError,
    image_batches,
    is_bytes,
    is_image,
    is_pil,
    looks_like_pixels,
)
from model_handler.data.loaders import (
    augmented,
    check_order,
    dataset_batches,
    has_numbered_rows,
    loader_batches,
    refuse_dropped_rows,
    split_labels,
)
from model_handler.data.reading import Reading
from model_handler.data.tables.table_data import TableData, as_table
from model_handler.data.tar.tar_shards import TarShards, names_tars
from model_handler.data.text.paths import looks_like_path
from model_handler.data.text.refusals import TEXT, quoted_beginning, refuse_images, refuse_text
from model_handler.data.text.strings import texts_in
from model_handler.data.text.text_transform import TextTransform, reads_text
from model_handler.data.text_batches import text_batches
from model_handler.errors import with_fix

__all__ = ["Batch", "Batches", "as_batches", "check_order", "refuse_dropped_rows"]

ACCEPTED = (
    "a DataLoader or a torch Dataset of (inputs, label); a tuple (X, y) of inputs and labels; an array or tensor, a "
    "dict of arrays, or ((a, b),) for inputs of several parts; an ImageFolderData or the path of a folder; an image (a "
    "path, a PIL image, a uint8 array) or a list of them; for a text network a string or a list of them; a TableData "
    "or TarShards"
)


def as_batches(
    data: object,
    *,
    transform: Callable[[Any], Any] | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    pin_memory: bool = False,
    rows: np.ndarray | None = None,
    augment: Callable[[Any], Any] | None = None,
    seed: int | None = None,
    by_length: bool = False,
) -> Batches:
    """Return batches of rows out of any kind of data, in the order of the data.

    Parameters
    ----------
    data : see below
        A torch DataLoader (used as it is, with its own batch size) or Dataset; a tuple (X, y); X alone, as an array or
        tensor whose first axis is the rows, a dict of such (the key `labels` is the label) or ``((a, b),)``; an
        ImageFolderData, or the path of a folder; one image or a list of images (an array or series of paths), as paths,
        PIL images or uint8 arrays (height, width[, channels]), or uint16 ones, whose upper byte is taken. Floating
        arrays are taken as preprocessed and go to the network in torch's default dtype; integers, booleans and tensors
        go as they are. `Batches` are given back.
        A `TarShards`, or the path or pattern of tar files, has images and labels, and so has a Hugging Face dataset
        with a column of images.
        With a `TextTransform`, strings are texts: one, or a list, array, column of pandas or of Hugging Face `datasets`
        of them. A TableData, or a `datasets.Dataset`, has texts for such a network and paths of images for others.
    transform : callable, optional
        From a PIL image in RGB to a tensor: the preprocessing of images. With it, uint8 and uint16 arrays are images.
        Or a `TextTransform`.
    batch_size : int
        Rows a batch, except for a DataLoader.
    num_workers : int
        Processes that read datasets and images. With none, images are read one batch ahead by a thread; datasets and
        loaders are read where they are iterated, as they may hold what belongs to one thread (a database connection).
    pin_memory : bool
        Whether datasets and images are put where a GPU can fetch them while it computes.
    rows : int array, optional
        The numbers of the rows to give, in this order, as `Batch.rows` and `look_through` have them; by default all. A
        DataLoader or an IterableDataset has an order of its own.
    augment : callable, optional
        What is done to each row before anything else: to a PIL image before the transform, to any other row as it is.
    seed : int, optional
        The seed of random numbers in worker processes.
    by_length : bool
        Whether texts may come sorted by length, for less padding: batches then say the `places` of their rows.

    Raises
    ------
    TypeError
        If the data is of none of these kinds, the message lists them; text without a `TextTransform`, images with one.
    ValueError
        If it is empty, lengths differ, images come without a transform or differ in shape, or an image is unreadable;
        if values are masked or missing. While iterating, `RowError` where a worker is lost or rows make no batch; what
        a dataset raises comes with the number of its row.
    FileNotFoundError
        If a path leads nowhere.
    """
    _check_counts(batch_size, num_workers)
    reading = Reading(batch_size, num_workers, pin_memory, rows, augment, seed, by_length)
    text = transform if isinstance(transform, TextTransform) else None
    data = _opened(data, text)
    if rows is not None and not has_numbered_rows(data):
        raise ValueError(f"the rows of a {type(data).__name__} come in its own order and cannot be asked for by number")
    if isinstance(data, DataLoader):
        return loader_batches(data, reading, text)
    if isinstance(data, ImageFolderData):
        return _folder_batches(data, transform, reading)
    if isinstance(data, Dataset):
        return _dataset_batches(data, transform, reading)
    if isinstance(data, Batches):
        return data
    X, labels = _inputs_and_labels(data)
    if text is not None:
        X = _single_text(X)
        if (texts := texts_in(X)) is not None:
            return text_batches(texts, labels, text, reading)
        refuse_images(X, "X")
    images = _as_images(X, transform)
    if images is not None:
        return _image_list_batches(images, labels, transform, reading)
    return _array_batches(_as_rows(X), labels, reading)


def _opened(data: object, text: TextTransform | None) -> Any:
    """Return the data, those that a path leads to where it is no text, and of a table what the network reads of it."""
    data = as_table(data)
    if isinstance(data, TableData):
        return _rows_of_table(data, text)
    if isinstance(data, (str, PathLike)) and text is None:
        return _at_path(data)
    return data


def _rows_of_table(table: TableData, text: TextTransform | None) -> Any:
    if text is None:
        _refuse_text([cell for cell in table.written if isinstance(cell, str)])
    inputs = table.files() if text is None else table.texts()
    return inputs if table.labels is None else (inputs, table.labels)


def _inputs_and_labels(data: Any) -> tuple[Any, np.ndarray | None]:
    """Return inputs, and labels as an array; raises for what is known to be neither."""
    if hasattr(data, "toarray"):
        as_array(data, "X")  # sparse, which is refused; one of its formats is a Mapping
    X, y = split_labels(data, "the data") if isinstance(data, (tuple, Mapping)) else (data, None)
    if isinstance(data, tuple) and len(data) == 2 and y is None:
        raise TypeError("the labels of the pair (X, y) are None; for inputs without labels give X alone")
    if hasattr(X, "indices_per_layer"):  # a Features, which is not to be asked for an array
        raise TypeError(
            "cannot read a Features as inputs of a network, since it holds outputs of layers; a head takes it in place "
            f"of data, with labels in it or as y. Give {ACCEPTED}"
        )
    labels = None if y is None else as_labels(y)
    if not isinstance(X, tuple):  # of several parts, each is asked for later
        refuse_masked(X, "X")
    return X, labels


def _single_text(X: Any) -> Any:
    """Return the texts of a dict that has nothing else, as one of columns may; anything else as it is."""
    if not isinstance(X, Mapping) or len(X) != 1 or hasattr(X, "toarray"):
        return X
    (only,) = X.values()
    return X if texts_in(only) is None else only


def _check_counts(batch_size: int, num_workers: int) -> None:
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _at_path(path: str | PathLike) -> Any:
    if names_tars(path):  # which may be a pattern of names
        return TarShards(path)
    if not os.path.exists(path):  # unlike Path.exists, also where the name is too long for a file
        if isinstance(path, str) and len(path.split()) > 1 and not looks_like_path(path):
            raise TypeError(f"{quoted_beginning(path)} is neither a file nor a folder; if it is text, {TEXT}")
        raise FileNotFoundError(f"there is no file or folder {fspath(path)!r}")
    return ImageFolderData(path) if os.path.isdir(path) else [Path(path)]


def _folder_batches(folder: ImageFolderData, transform: Callable[[Any], Any] | None, reading: Reading) -> Batches:
    if reads_text(transform):
        refuse_images(folder.path, "the folder of images")
    if folder.transform is None and transform is None:
        raise ValueError(f"{folder.path}: {NO_TRANSFORM}")
    return numbered(lambda reading: folder.batches(transform=transform, reading=reading), reading)


def _dataset_batches(data: Dataset, transform: Callable[[Any], Any] | None, reading: Reading) -> Batches:
    def make(reading: Reading) -> Batches:
        return dataset_batches(data, transform, reading)

    batches = make(reading)
    return batches if batches.n_rows is None or not has_numbered_rows(data) else numbered(make, reading)


def _as_images(X: object, transform: Callable[[Any], Any] | None) -> Any:
    """Return X as a sequence of images, None if it is none. Raises ValueError if a transform is needed and missing."""
    X = _as_list(X)
    if isinstance(X, (str, PathLike)) or is_pil(X):
        X = [X]
    images = _split_pixels(X, transform) if not isinstance(X, list) else X if _is_image_list(X, transform) else None
    if images is not None and transform is None:
        raise ValueError(NO_TRANSFORM)
    return images


def _as_list(X: object) -> Any:
    """List the entries of a one-dimensional array or series of text or objects, such as paths from a table."""
    if isinstance(X, (list, tuple, Mapping, Tensor)) or not hasattr(X, "__array__") or is_pil(X):
        return X
    try:
        array = np.asarray(X)
    except TypeError as error:  # it refuses to be one, as a Features does
        raise TypeError(f"cannot read data of type {type(X).__name__}; give {ACCEPTED}") from error
    if array.ndim == 1 and array.dtype.kind in "OSU":
        return array.tolist()
    return X if hasattr(X, "columns") else array  # a table is no image, and knows what its columns are called


def _is_image_list(X: list[Any], transform: Callable[[Any], Any] | None) -> bool:
    def is_one(image: object) -> bool:
        return is_image(image) and (transform is not None or not looks_like_pixels(image) or _is_coloured(image))

    if not X or not is_one(X[0]):
        return False
    _refuse_text([path for path in X if isinstance(path, (str, PathLike))])
    if not_images := [index for index, image in enumerate(X) if not is_image(image)]:
        row = not_images[0]
        shape = f" of {X[row].dtype}, {tuple(X[row].shape)}" if hasattr(X[row], "dtype") else ""
        kind = type(X[row]).__name__ + shape
        raise TypeError(f"row {row} of the list of images is {kind}, not a path, PIL image or array of uint8 or uint16")
    if missing := [fspath(image) for image in X if isinstance(image, (str, PathLike)) and not os.path.isfile(image)]:
        shown = ", ".join(missing[:5])
        hint = "; the path of a folder goes alone, without a list or y" if any(map(os.path.isdir, missing)) else ""
        raise FileNotFoundError(f"{len(missing)} of {len(X)} paths in the list lead to no file: {shown}{hint}")
    return True


def _refuse_text(paths: list[Any]) -> None:
    """Raise TypeError for strings none of which looks like a path or is one."""
    if paths and not any(not isinstance(path, str) or looks_like_path(path) or os.path.exists(path) for path in paths):
        raise TypeError(
            f"strings are taken for paths, and these are none, such as {quoted_beginning(paths[0])}: {TEXT}"
        )


def _is_coloured(pixels: Any) -> bool:
    """Return whether bytes can hardly be anything but pictures: channels last, three or four of them."""
    return pixels.ndim in (3, 4) and pixels.shape[-1] in (3, 4)


def _split_pixels(X: Any, transform: Callable[[Any], Any] | None) -> Any:
    """Split an array of bytes into single images; None for any other array, and for bytes that no transform awaits."""
    if not is_bytes(X):
        return None
    if transform is None:
        return X if _is_coloured(X) else None
    shape = tuple(X.shape)
    first_is_channels = isinstance(X, Tensor) and X.ndim == 3 and shape[0] in CHANNELS and shape[-1] not in CHANNELS
    if X.ndim == 4 and not {shape[1], shape[-1]} & set(CHANNELS):
        raise ValueError(
            f"bytes of shape {shape} are no images, whose last axis has 1, 3 or 4 channels: leave some of them out, "
            "or give the network preprocessed inputs, a floating array"
        )
    if first_is_channels or (X.ndim == 4 and shape[-1] not in CHANNELS):
        raise ValueError(
            f"bytes of shape {shape} look like images with the channels first; the transform takes (height, width, "
            "channels): use .permute(1, 2, 0) on one image, (0, 2, 3, 1) on several; several grey images go as a list"
        )
    if looks_like_pixels(X):
        return [X]
    return X if X.ndim in (3, 4) else None


def _image_list_batches(
    images: Any, labels: np.ndarray | None, transform: Callable[[Any], Any] | None, reading: Reading
) -> Batches:
    _check_lengths(len(images), labels)

    def start(share: Share, reading: Reading) -> Iterator[Batch]:
        rows = reading.numbers(len(images))
        try:
            yield from image_batches(images, labels, transform, reading, rows=rows, share=share)  # type: ignore[arg-type]
        except UnreadableImageError as error:
            raise with_fix(
                UnreadableImageError,
                str(error),
                python="take it out of the list",
                shell="leave it out: --on-error skip",
            ) from None

    return numbered(of_reading(start, len(images), "the list of images"), reading)


def _as_rows(X: object) -> Parts:
    if isinstance(X, (DataLoader, Dataset, ImageFolderData)):
        raise TypeError(f"{type(X).__name__} brings its own labels; give it alone, not in a pair with y")
    if hasattr(X, "__next__"):
        raise TypeError(
            f"cannot read data of type {type(X).__name__}, which gives its rows only once: give what it iterates, such "
            f"as the DataLoader itself, or a torch IterableDataset whose __iter__ makes it anew. Accepted: {ACCEPTED}"
        )
    if not isinstance(X, (tuple, list, Mapping, Tensor)) and not hasattr(X, "__array__") and not hasattr(X, "toarray"):
        raise TypeError(f"cannot read data of type {type(X).__name__}; {_hint(X)}give {ACCEPTED}")
    if isinstance(X, (tuple, Mapping)) and not hasattr(X, "toarray"):  # one sparse format is a Mapping
        return as_parts(X)
    if isinstance(X, list) and X and isinstance(X[0], (tuple, Mapping)):
        raise TypeError(
            f"cannot read a list of {type(X[0]).__name__}: of rows (inputs, label) make arrays (X, y), or a torch "
            f"Dataset; of whole batches a DataLoader(list, batch_size=None). Accepted: {ACCEPTED}"
        )
    if isinstance(X, list) and X and not isinstance(X[0], (list, int, float, np.number, np.ndarray, Tensor)):
        raise TypeError(f"cannot read a list of {type(X[0]).__name__}; {_hint(X[0])}give {ACCEPTED}")
    refuse_text(X, "X")
    array = as_array(X, "X")
    floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
    if floating and array.ndim == 1 and len(array):
        raise ValueError(
            f"X has one axis of {len(array)} numbers, which may be one row or many. Reshape your data: "
            "X.reshape(1, -1) if it is one row, X.reshape(-1, 1) if every row is one number"
        )
    return array


def _hint(value: object) -> str:
    if not isinstance(value, (bytes, bytearray)):
        return ""
    return f"those of an image file become an image by PIL.Image.open(io.BytesIO(data)), and {TEXT}; else "


def _array_batches(parts: Parts, labels: np.ndarray | None, reading: Reading) -> Batches:
    n_rows = count_rows(parts)
    _check_lengths(n_rows, labels)

    def start(share: Share, reading: Reading) -> Iterator[Batch]:
        numbers = reading.numbers(n_rows)
        for first in share.take(range(0, len(numbers), reading.batch_size)):
            rows = numbers[first : first + reading.batch_size]
            in_order = slice(rows[0], rows[-1] + 1) if reading.rows is None else rows  # a slice is no copy
            inputs = augmented(take_rows(parts, in_order), reading.augment)
            yield Batch(inputs, None if labels is None else labels[in_order], len(rows), rows=rows)

    return numbered(of_reading(start, n_rows, "X"), reading)


def _check_lengths(n_rows: int, labels: np.ndarray | None) -> None:
    if labels is not None and len(labels) != n_rows:
        raise ValueError(f"X has {n_rows} rows and y has {len(labels)} labels; every row needs one label")
