"""Annotations of PASCAL VOC: one XML file an image, read by defusedxml, which refuses entities.

VOC counts pixels from 1 and both edges belong to a box, so that a box of one pixel has xmin = xmax. As distances from
the corner of the image, its edges are at xmin - 1 and xmax (Everingham et al., 2010, IJCV 88).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.regular_files import read_file

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


__all__ = ["VocObjects", "read_voc_xml"]

_MOST_BYTES = 1 << 24  # an annotation of 50,000 objects has as many
_MOST_DIGITS = 10  # of the sides of an image
_EDGES = ("xmin", "ymin", "xmax", "ymax")
VocObjects = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int] | None]


def read_voc_xml(path: Path) -> VocObjects:
    """Read boxes float64 (n, 4), labels and ignored (n,), and the size (height, width) that is stated, or None.

    Raises CorruptFileError for a file that is no VOC annotation, and UnsafeFileError for one with entities of its own
    or from elsewhere; both name the file, and are ValueErrors.
    """
    root = _parsed(path)
    if root.tag != "annotation":
        raise CorruptFileError(f"{path} is no VOC annotation: its root is <{root.tag}>, not <annotation>")
    objects = root.findall("object")
    where = [f"{path}, object {number}" for number in range(len(objects))]
    boxes = np.array([_box(each, at) for each, at in zip(objects, where)], dtype=np.float64).reshape(-1, 4)
    labels = np.array([_text(each, "name", at) for each, at in zip(objects, where)], dtype=object)
    ignored = np.array([_is_difficult(each, at) for each, at in zip(objects, where)], dtype=bool)
    return boxes, labels, ignored, _stated_size(root)


def _parsed(path: Path) -> "Element":
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(bytes(read_file(path, most_bytes=_MOST_BYTES)))
    except ParseError as error:
        raise CorruptFileError(f"{path} is no whole XML: {error}") from error
    except DefusedXmlException as error:
        raise UnsafeFileError(
            f"{path} is refused, as it defines or fetches entities, which no VOC annotation needs: {error}"
        ) from error
    except (LookupError, ValueError, RecursionError) as error:
        if isinstance(error, (CorruptFileError, UnsafeFileError)):
            raise
        raise CorruptFileError(f"{path} is no whole XML: {error}") from error


def _box(element: "Element", where: str) -> list[float]:
    bounds = element.find("bndbox")
    if bounds is None:
        raise CorruptFileError(f"{where}, has no <bndbox>")
    xmin, ymin, xmax, ymax = (_number(bounds, edge, where) for edge in _EDGES)
    return [xmin - 1, ymin - 1, xmax, ymax]


def _is_difficult(element: "Element", where: str) -> bool:
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise CorruptFileError(f"{where}, has <difficult> {text!r:.40}, which is 0 or 1")
    return text == "1"


def _stated_size(root: "Element") -> tuple[int, int] | None:
    """Return the size that is stated; None where it is not, or as 0, as some tools write what they do not know."""
    given = root.find("size")
    if given is None:
        return None
    sides = [given.findtext(name, default="").strip() for name in ("height", "width")]
    height, width = (int(side) if side.isdecimal() and len(side) < _MOST_DIGITS else 0 for side in sides)
    return (height, width) if height and width else None


def _number(element: "Element", name: str, where: str) -> float:
    text = _text(element, name, where)
    try:
        return float(text)
    except ValueError:
        raise CorruptFileError(f"{where}, has <{name}> {text!r:.40}, which is no number") from None


def _text(element: "Element", name: str, where: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise CorruptFileError(f"{where}, has no <{name}>")
    return text
