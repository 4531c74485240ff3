"""`CocoData`: a JSON file of annotations as COCO has it, and the folder of its images."""

import os
from collections import Counter
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import parse_json
from model_handler.files.regular_files import read_file
from repurpose.detection.data.annotated_images import (
    AnnotatedImages,
    Annotation,
    check_on_error,
    refuse_missing_images,
)

__all__ = ["CocoData"]

_FARTHEST = 1e12  # pixels: whole numbers may be too large for a float
_FIELDS = {
    "images": ("id", "file_name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


class CocoData(AnnotatedImages):
    """The images and objects of a COCO file: a map-style Dataset of (image, {"boxes", "labels"}).

    Rows are the images in the order of the file, those without objects too. Row i is (PIL image, target): boxes float32
    (n, 4), x1, y1, x2, y2 in pixels, made of the file's x, y, width, height, the list of labels, which are the names of
    categories, and `ignored`, bool (n,): objects with ``"iscrowd": 1``, which are not trained on and, as in COCO's own
    evaluation, neither right nor wrong where they are found.

    Parameters
    ----------
    annotations : str or Path
        The JSON file, such as "annotations/instances_val2017.json".
    images : str or Path
        The folder that the file names of images are relative to.
    on_error : "raise" or "skip"
        What a box that cannot be used (outside the image, empty) does: it raises an error, or is left out with a
        warning. Files of COCO may hold a few empty ones.

    Raises
    ------
    FileNotFoundError
        If the file, the folder or an image is missing.
    CorruptFileError
        If the file is no JSON, or lacks what it must have; names the file and the place, and is a ValueError.
    UnsafeFileError
        If a file name leads out of the folder of images.
    ValueError
        When read: for boxes outside or empty.

    Examples
    --------
    >>> import json
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from repurpose.detection import CocoData
    >>> Path("photos").mkdir()
    >>> Image.new("RGB", (20, 10)).save("photos/1.jpg")
    >>> objects = [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 4, 5, 6], "iscrowd": 0}]
    >>> given = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": objects}
    >>> n_written = Path("objects.json").write_text(json.dumps(given | {"categories": [{"id": 3, "name": "cat"}]}))
    >>> data = CocoData("objects.json", "photos")
    >>> data.classes, data[0][1]["boxes"].tolist()
    (['cat'], [[2.0, 4.0, 7.0, 10.0]])
    """

    def __init__(self, annotations: str | PathLike, images: str | PathLike, *, on_error: str = "raise") -> None:
        check_on_error(on_error)
        self.annotations = Path(annotations)
        self.images = Path(images)
        given = _parsed(self.annotations)
        self._images: list[dict[str, Any]] = given["images"]
        self._names = _category_names(given["categories"], self.annotations)
        _refuse_twice([image["id"] for image in self._images], "images", self.annotations)
        self._objects = self._by_image(given["annotations"])
        if not self._images:
            raise ValueError(f"{self.annotations} has no image")
        _check_images(self._images, self.annotations, self.images)
        super().__init__(len(self._images), on_error)

    @property
    def described(self) -> str:
        """The JSON file."""
        return str(self.annotations)

    def annotation(self, number: int) -> Annotation:
        """Return what the file says of one image."""
        image = self._images[number]
        objects = self._objects[image["id"]]
        boxes = np.array([each["bbox"] for each in objects], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([self._names[each["category_id"]] for each in objects], dtype=object)
        ignored = np.array([each.get("iscrowd", 0) == 1 for each in objects], dtype=bool)
        name = f"{self.annotations}, image {image['id']} ({image['file_name']})"
        return Annotation(self.images / image["file_name"], boxes, labels, ignored, _stated_size(image), name)

    def _by_image(self, objects: list[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
        found: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in self._images}
        for each in objects:
            where = f"{self.annotations}, annotation {each['id']}"
            for key, known in (("image_id", found), ("category_id", self._names)):
                if not _is_id(each[key]) or each[key] not in known:
                    raise CorruptFileError(f"{where}, has {key} {each[key]!r:.40}, which the file does not describe")
            if not _is_bbox(each["bbox"]):
                raise CorruptFileError(
                    f"{where}, has the bbox {each['bbox']!r:.80}, where x, y, width, height were expected"
                )
            if each.get("iscrowd", 0) not in (0, 1):
                raise CorruptFileError(f"{where}, has iscrowd {each['iscrowd']!r:.40}, which is 0 or 1")
            found[each["image_id"]].append(each)
        return found


def _parsed(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        text = bytes(read_file(path)).decode()
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is no JSON: {error}") from error
    given = parse_json(text, str(path))
    if not isinstance(given, dict) or not all(isinstance(given.get(name), list) for name in _FIELDS):
        raise CorruptFileError(f"{path} is no COCO file: it must have the lists {', '.join(map(repr, _FIELDS))}")
    for name, fields in _FIELDS.items():
        for number, entry in enumerate(given[name]):
            lacking = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if lacking:
                raise CorruptFileError(
                    f"{path}: entry {number} of {name!r} has no {' and no '.join(map(repr, lacking))}"
                )
    return given


def _category_names(categories: list[dict[str, Any]], path: Path) -> dict[Any, str]:
    _refuse_twice([each["id"] for each in categories], "categories", path)
    names = [each["name"] for each in categories]
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise CorruptFileError(f"{path}: the name of a category must be a text, got {wrong[0]!r:.40}")
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise CorruptFileError(
            f"{path}: several categories are called {twice[0]!r:.40}; labels are names, so give each its own"
        )
    return {each["id"]: each["name"] for each in categories}


def _refuse_twice(ids: list[Any], what: str, path: Path) -> None:
    if wrong := [given for given in ids if not _is_id(given)]:
        raise CorruptFileError(f"{path}: ids of {what} must be numbers or texts, got {wrong[0]!r:.40}")
    if twice := [given for given, n in Counter(ids).items() if n > 1]:
        raise CorruptFileError(f"{path}: several {what} have the id {twice[0]!r:.40}")


def _check_images(images: list[dict[str, Any]], path: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    for image in images:
        name = image["file_name"]
        if not isinstance(name, str) or not name or os.path.isabs(name) or ".." in PurePosixPath(name).parts:
            raise UnsafeFileError(
                f"{path}: image {image['id']} has the file name {name!r:.80}, which leads out of {folder}: give "
                "names relative to the folder"
            )
    parents = {str(PurePosixPath(image["file_name"]).parent) for image in images}
    found = {(PurePosixPath(parent) / name).as_posix() for parent in parents for name in _listed(folder / parent)}
    missing = {
        f"image {image['id']} of {path}": image["file_name"]
        for image in images
        if PurePosixPath(image["file_name"]).as_posix() not in found
    }
    refuse_missing_images(missing, folder, sorted(found))


def _stated_size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _is_bbox(value: object) -> bool:
    sides = value if isinstance(value, list) else []
    return len(sides) == 4 and all(type(side) in (int, float) and abs(side) < _FARTHEST for side in sides)


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str))
