"""What data holds is known by its bytes: files by size, time and hash, arrays, images and texts by hash.

Data that has to be asked for its rows one by one, such as a Dataset or a DataLoader, is not known.
"""

import os
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model_handler.data import Batches, ImageFolderData
from model_handler.data.decoding import is_pil
from model_handler.data.loaders import split_labels
from model_handler.data.tables.table_data import TableData
from model_handler.feature_cache.identity import Identity, UnknownIdentity

__all__ = ["ContentIdentity"]

_ASKED_FOR_ROWS = (Dataset, DataLoader, Batches, Iterator)


class ContentIdentity(Identity):
    """The identity of inputs, without their labels."""

    def take_data(self, data: Any) -> None:
        """Take in the inputs of data as a user gives it. Raises UnknownIdentity for data that is not known."""
        if isinstance(data, ImageFolderData):
            self.say("folder", data.on_error)
            self._files(data.paths)
        elif isinstance(data, TableData):
            self.say("table")
            self._parts(data.written, data.folder)
        else:
            X = split_labels(data, "the data")[0] if isinstance(data, (tuple, Mapping)) else data
            self._parts([X]) if isinstance(X, str) else self.take(X)

    def _rules(self) -> list[Any]:
        own = [
            (_ASKED_FOR_ROWS, ContentIdentity._unknown),
            (str, lambda self, text: self.say("text", text)),  # of a subclass, such as numpy's
            (PathLike, lambda self, path: self._files([path])),
            ((list, tuple), ContentIdentity._parts),
            (Mapping, Identity._mapping),
            (Tensor, Identity._tensor),
            ((np.ndarray, np.generic), ContentIdentity._array_of_parts),
        ]
        return own

    def _object(self, value: Any) -> None:
        if is_pil(value):
            self._image(value)
        elif hasattr(value, "__array__") and not hasattr(value, "indices_per_layer"):
            self.say(repr(list(getattr(value, "columns", ()))))
            self._array_of_parts(np.asarray(value))
        else:
            self._unknown(value)

    def _unknown(self, value: object) -> None:
        raise UnknownIdentity(f"data of type {type(value).__name__}, whose rows are not known before they are read")

    def _parts(self, value: Any, folder: Path = Path()) -> None:
        self._sequence(value)
        # a string may be a text or a path, which the preprocessing alone knows: where a file is there, that counts too
        self._files([folder / part for part in value if isinstance(part, str) and _is_file(folder / part)])

    def _array_of_parts(self, value: Any) -> None:
        array = np.asarray(value)
        self._parts(array.reshape(-1).tolist()) if array.dtype.kind in "OSU" else self._array(array)

    def _files(self, paths: list[Any]) -> None:
        self.say("files", str(len(paths)))
        for path in paths:
            try:
                with open(path, "rb") as file:
                    found = os.fstat(file.fileno())
                    self.say(str(found.st_size), str(found.st_mtime_ns), file_digest(file, "sha256").digest())
            except OSError as error:
                raise UnknownIdentity(f"the file {fspath(path)!r}, which cannot be read ({error})") from error

    def _image(self, image: Any) -> None:
        try:
            self.say("image", image.mode, str(image.size), image.tobytes(), image.getexif().tobytes())
            self.say(repr(image.getpalette()), repr(image.info.get("transparency")))
        except (OSError, SyntaxError, ValueError) as error:
            raise UnknownIdentity(f"an image that cannot be read ({error})") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # it is too long for a path, or has a zero byte
        return False
