"""Boxes are judged: finite, not empty, not reversed, inside their image, and in pixels.

A box that reaches beyond an edge by up to a pixel, as tools that count from 0 or from 1 write them, is clipped.
"""

from collections.abc import Collection, Mapping, Set

import numpy as np
from torch import Tensor

from model_handler.errors import with_fix
from model_handler.user_warnings import warn_user
from repurpose.detection.data.rows import DetectionTruth

__all__ = ["box_array", "judged_truth", "label_objects"]

_SLACK = 1.0  # pixels beyond an edge
_N_TOLD = 5
# Not where a file's format says what its numbers are.
_NOT_EDGES = " (are these x, y, width, height? Then torchvision.ops.box_convert turns them)"


def judged_truth(
    boxes: np.ndarray,
    labels: np.ndarray,
    ignored: np.ndarray,
    *,
    size: tuple[int, int],
    name: str,
    skip: bool = False,
    fix: str = "",
    fix_in_shell: str = "",
) -> DetectionTruth:
    """Return the objects of an image of `size` (height, width), with boxes clipped to it.

    Boxes that cannot be used raise ValueError, which ends in a fix; with `skip` they are left out with a UserWarning.
    Both name the row and each box.
    """
    with np.errstate(over="ignore"):
        rounded = boxes.astype(np.float32)  # judged as it is kept: a width of a millionth is none
    mistakes = _mistakes(rounded.astype(np.float64), size, hint="" if fix else _NOT_EDGES)
    if mistakes:
        told = [f"box {number}, {boxes[number].tolist()}, {said}" for number, said in list(mistakes.items())[:_N_TOLD]]
        more = f" and {len(mistakes) - _N_TOLD} more" if len(mistakes) > _N_TOLD else ""
        message = f"{name}, an image of {size[1]} x {size[0]} pixels: {'; '.join(told)}{more}"
        if not skip:
            said = f"{message}. Boxes are x1, y1, x2, y2 in pixels"
            raise with_fix(ValueError, said, python=fix, shell=fix_in_shell)
        warn_user(f"{message}; left out")
    kept = np.array([number not in mistakes for number in range(len(boxes))], dtype=bool)
    height, width = size
    clipped = np.clip(rounded[kept], 0, np.array([width, height, width, height], dtype=np.float32))
    return DetectionTruth(clipped, labels[kept], ignored[kept], size, name)


def box_array(boxes: object, name: str) -> np.ndarray:
    """Return boxes of numbers as float64 (n, 4), none as (0, 4).

    Boxes of torchvision's `tv_tensors` in another format become x1, y1, x2, y2. Raises ValueError for other shapes,
    TypeError for what is no number.
    """
    given = _corners(boxes).detach().cpu() if isinstance(boxes, Tensor) else boxes
    if isinstance(given, Tensor) and given.is_floating_point():
        given = given.double()  # numpy has no bfloat16
    try:
        plain = np.asarray(given)
        if plain.dtype.kind == "c":
            raise TypeError("complex numbers have no order")
        array = plain.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: boxes must be numbers of shape (n, 4), got {boxes!r:.80}") from error
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        advice = "; one box is a list of one, [[x1, y1, x2, y2]]" if array.shape == (4,) else ""
        raise ValueError(f"{name}: boxes must have shape (n, 4), got {array.shape}{advice}")
    return array


def label_objects(labels: object, n_boxes: int, name: str) -> np.ndarray:
    """Return one label a box, text or whole numbers: (n,), dtype object. Raises ValueError and TypeError."""
    if isinstance(labels, (str, bytes, Mapping, Set)) or not isinstance(labels, Collection):
        raise TypeError(f"{name}: labels must be a list or array with one label a box, got {labels!r:.60}")
    listed = labels.tolist() if isinstance(labels, (np.ndarray, Tensor)) else list(labels)
    if not isinstance(listed, list) or len(listed) != n_boxes:
        n_labels = len(listed) if isinstance(listed, list) else "no list of"
        raise ValueError(f"{name} has {n_boxes} boxes and {n_labels} labels: give one a box")
    found = np.empty(n_boxes, dtype=object)
    for number, label in enumerate(listed):
        found[number] = _judged_label(label.item() if isinstance(label, (Tensor, np.generic)) else label, number, name)
    return found


def _judged_label(label: object, number: int, name: str) -> str | int:
    if isinstance(label, str) and label:
        return label
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return int(label)
    raise ValueError(f"{name}: a label must be a text or a whole number, and that of box {number} is {label!r:.60}")


def _mistakes(boxes: np.ndarray, size: tuple[int, int], hint: str) -> dict[int, str]:
    """Say what is wrong with boxes (n, 4), by their number; `hint` stands behind those that are reversed."""
    height, width = size
    finite = np.isfinite(boxes).all(axis=1)
    x1, y1, x2, y2 = np.where(finite[:, None], boxes, 0.0).T
    beyond = np.max([-x1, -y1, x2 - width, y2 - height], axis=0) > _SLACK
    beside = (np.minimum(x2, width) <= np.maximum(x1, 0)) | (np.minimum(y2, height) <= np.maximum(y1, 0))
    # One pixel in the corner may be meant; all boxes of an image within it are not.
    shares = min(size) > 1 and ((boxes >= 0) & (boxes <= 1)).all()
    found = {
        "is not finite": ~finite,
        f"is reversed{hint}": (x2 < x1) | (y2 < y1),
        "is empty": (x2 == x1) | (y2 == y1),
        "seems to hold shares of the image, from 0 to 1: multiply them by its width and height": np.full(
            len(x1), shares
        ),
        "lies outside": beyond | beside,
    }
    said: dict[int, str] = {}
    for text, wrong in found.items():
        for number in np.flatnonzero(wrong).tolist():
            said.setdefault(number, text)
    return dict(sorted(said.items()))


def _corners(boxes: Tensor) -> Tensor:
    """Return x1, y1, x2, y2 of boxes that may be torchvision's, which say in which format they are."""
    name = getattr(getattr(boxes, "format", None), "value", "XYXY")
    plain = boxes.as_subclass(Tensor)
    if name == "XYXY":
        return plain
    if name not in ("XYWH", "CXCYWH"):
        raise ValueError(f"boxes must be upright rectangles, got boxes in the format {name}")
    from torchvision.ops import box_convert

    return box_convert(plain, name.lower(), "xyxy")
