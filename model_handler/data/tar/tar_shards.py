"""`TarShards`: images and labels in tar files, as WebDataset lays them out, read in place by their rows."""

import json
from collections.abc import Sequence
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from torch.utils.data import Dataset

from model_handler.data.tar.braces import expanded
from model_handler.data.tar.tar_index import Place, Sample, samples_in
from model_handler.errors import CorruptFileError, first_few

__all__ = ["TarShards", "names_tars"]

_IMAGES = ("jpg", "jpeg", "png", "webp")
_FORMATS = ("JPEG", "PNG", "WEBP")
_LABELS = ("cls", "json", "txt")
_IN_JSON = ("label", "cls", "class")
_MOST_OF_LABEL = 1 << 20  # bytes

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


class TarShards(Dataset):
    """Images in tar files, with labels beside them, as WebDataset lays them out; nothing is extracted to the disk.

    Members that follow each other and have one name before the first dot are one row: an image (.jpg, .jpeg, .png or
    .webp) and perhaps a label (.cls: a number; .json: what it has under "label", "cls" or "class"; .txt: a text). The
    headers of all files are read at once, about 30 microseconds a member; images when they are asked for, in any order.

    Parameters
    ----------
    paths : str, path, or list of them
        Uncompressed tar files, in order; ``{000..012}`` in a name stands for numbers, ``{a,b}`` for words.
    label : "auto", "cls", "json", "txt" or None
        Which member is the label; by default the first of these that the first row has. With None rows have none.
    classes : sequence of str, optional
        The names of the labels 0, 1, ...

    Attributes
    ----------
    files : list of Path
        The tar files.
    names : list of str
        The name of each row: its file and its key, such as "photos-000.tar/cats/001".

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    CorruptFileError
        If a file is no tar file, is compressed or was cut, or a row has no image, or lacks the label that others have.
    UnsafeFileError
        If the name of a member is absolute or holds "..", or it is a link or a device.
    ValueError
        If there is no row, or `label` is none of these.

    Examples
    --------
    >>> import io, tarfile
    >>> from PIL import Image
    >>> from model_handler import TarShards
    >>> with tarfile.open("photos-000.tar", "w") as tar:
    ...     for number in range(3):
    ...         image = io.BytesIO()
    ...         Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(image, "png")
    ...         for suffix, data in (("png", image.getvalue()), ("cls", b"%d" % number)):
    ...             member = tarfile.TarInfo(f"{number:03d}.{suffix}")
    ...             member.size = len(data)
    ...             tar.addfile(member, io.BytesIO(data))
    >>> photos = TarShards("photos-{000..000}.tar")
    >>> photos, photos[2][1]
    (TarShards(3 rows in 1 file; labels of .cls), 2)
    """

    def __init__(self, paths: Paths, *, label: str | None = "auto", classes: Sequence[str] | None = None) -> None:
        if label not in ("auto", None, *_LABELS):
            raise ValueError(f"label must be 'auto', None or one of {list(_LABELS)}, got {label!r}")
        self.files = _files(paths)
        self.classes = None if classes is None else list(classes)
        self.names: list[str] = []
        self._label, self._is_auto = label, label == "auto"
        places: list[tuple[int, ...]] = []
        for number, file in enumerate(self.files):
            for sample in samples_in(file):
                places.append((number, *self._image_of(sample, file), *self._label_of(sample, file)))
                self.names.append(f"{file.name}/{sample.key}")
        if not places:
            raise ValueError(f"the tar files hold no images: {first_few(list(map(str, self.files)))}")
        self._places = np.array(places, dtype=np.int64)  # of each row: file, image and label, each offset and size

    @property
    def members(self) -> tuple[str, ...]:
        """What is read of a row: images, and the suffix of its label."""
        return _IMAGES if self._label is None else (*_IMAGES, self._label)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: int) -> Any:
        """Return the image of a row, of PIL, and its label where rows have such."""
        number, offset, size, label_offset, label_size = self._places[row].tolist()
        with self.files[number].open("rb") as file:
            data = _read(file, (offset, size))
            label = None if self._label is None else _read(file, (label_offset, label_size))
        image = self._opened(data, row)
        return (image,) if label is None else (image, self._parsed(label, row))

    def __repr__(self) -> str:
        labels = "no labels" if self._label is None else f"labels of .{self._label}"
        files = f"{len(self.files)} file{'s' * (len(self.files) != 1)}"
        return f"TarShards({len(self)} rows in {files}; {labels})"

    def _image_of(self, sample: Sample, file: Path) -> Place:
        found = [sample.places[suffix] for suffix in _IMAGES if suffix in sample.places]
        if len(found) != 1:
            has = f"{len(found)} images" if found else f"no image, but {sorted(sample.places)}"
            raise CorruptFileError(f"{file}: {sample.key!r} has {has}; each row needs one of .{', .'.join(_IMAGES)}")
        return found[0]

    def _label_of(self, sample: Sample, file: Path) -> Place:
        if self._is_auto and not self.names:
            self._label = next((suffix for suffix in _LABELS if suffix in sample.places), None)
        if self._label is None:
            if self._is_auto and (late := [suffix for suffix in _LABELS if suffix in sample.places]):
                raise CorruptFileError(
                    f"{file}: {sample.key!r} has .{late[0]}, and rows before it have no label; give every row one, or "
                    "label=None"
                )
            return 0, 0
        if self._label not in sample.places:
            raise CorruptFileError(
                f"{file}: {sample.key!r} has no .{self._label}, which is the label of others; give every row one, or "
                "label=None"
            )
        place = sample.places[self._label]
        if place[1] > _MOST_OF_LABEL:
            raise CorruptFileError(f"{file}: the label of {sample.key!r} has {place[1]:,} bytes")
        return place

    def _opened(self, data: bytes, row: int) -> Any:
        from PIL import Image

        try:
            image = Image.open(BytesIO(data), formats=_FORMATS)
            image.load()
        except MemoryError:
            raise
        except Exception as error:  # a broken file raises almost anything: OSError, SyntaxError, struct.error, ...
            raise CorruptFileError(f"{self.names[row]} cannot be read as an image: {error}") from error
        return image

    def _parsed(self, data: bytes, row: int) -> int | float | str:
        try:
            text = data.decode()
            if self._label == "txt":
                return text.strip()
            value = json.loads(text)
            if isinstance(value, dict):
                value = next(value[name] for name in _IN_JSON if name in value)
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise TypeError(f"{value!r} is neither a number nor a text")
            return value
        except (StopIteration, TypeError, ValueError) as error:
            wanted = {"cls": "a number", "txt": "text in UTF-8"}.get(str(self._label), f"one of {list(_IN_JSON)}")
            raise CorruptFileError(
                f"{self.names[row]}: its .{self._label} holds no label ({wanted}): {error}"
            ) from error


def names_tars(path: object) -> TypeGuard[str | PathLike[str]]:
    """Tell whether a path, or a pattern of paths, is called as tar files are."""
    return isinstance(path, str | PathLike) and fspath(path).lower().endswith((".tar", ".tar.gz", ".tgz"))


def _files(paths: Paths) -> list[Path]:
    given = [paths] if isinstance(paths, str | PathLike) else list(paths)
    files = [Path(name) for path in given for name in expanded(fspath(path))]
    if not files:
        raise ValueError("there is no tar file; give at least one path")
    if missing := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{len(missing)} of {len(files)} tar files are not there: {first_few(missing)}")
    return files


def _read(file: Any, place: Place) -> bytes:
    file.seek(place[0])
    data: bytes = file.read(place[1])
    if len(data) < place[1]:
        raise CorruptFileError(f"{file.name} became shorter while it was read")
    return data
