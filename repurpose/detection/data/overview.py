"""An overview of training data: one pass over the boxes of all rows, before anything is learned from them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repurpose.detection.data.rows import DetectionRows, DetectionTruth

__all__ = ["DetectionOverview", "overview_of"]


@dataclass(frozen=True, eq=False)
class DetectionOverview:
    """What there is to learn from; objects that are ignored are not in it.

    Attributes
    ----------
    classes, counts : ndarray of shape (n_classes,)
        The labels, sorted, and how many boxes each has.
    box_sizes : float32 ndarray of shape (n_boxes, 2)
        Width and height of each box in pixels.
    box_rows : int ndarray of shape (n_boxes,)
        The number of its row.
    image_sizes : int ndarray of shape (n_rows, 2)
        Height and width of each image in pixels.
    """

    classes: np.ndarray
    counts: np.ndarray
    box_sizes: np.ndarray
    box_rows: np.ndarray
    image_sizes: np.ndarray


def overview_of(rows: DetectionRows, truths: Sequence[DetectionTruth] | None = None) -> DetectionOverview:
    """Read the objects of all rows, without decoding images where the data have boxes beside them.

    `truths` are those of all rows, where they have been read before. Raises ValueError where no row has an object to
    learn from, TypeError for labels of text and numbers mixed.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection.data import detection_rows, overview_of
    >>> target = {"boxes": [[0, 0, 4, 5], [1, 1, 3, 2]], "labels": ["dog", "cat"]}
    >>> overview = overview_of(detection_rows([(np.zeros((8, 8, 3), np.uint8), target)]))
    >>> overview.classes.tolist(), overview.box_sizes.tolist()
    (['cat', 'dog'], [[4.0, 5.0], [2.0, 1.0]])
    """
    truths = list(rows.truths()) if truths is None else truths
    boxes = [truth.boxes[~truth.ignored] for truth in truths]
    counts: Counter[str | int] = Counter(label for truth in truths for label in truth.labels[~truth.ignored].tolist())
    if not counts:
        n_ignored = sum(len(truth.boxes) for truth in truths)
        beside = f" (all {n_ignored} are marked as difficult or as crowds)" if n_ignored else ""
        raise ValueError(
            f"none of the {len(truths)} images of {rows.described} has an object to learn from{beside}; give images "
            "with boxes, among which some may have none"
        )
    if len(kinds := {type(label) for label in counts}) > 1:
        raise TypeError(
            f"labels must be all text or all whole numbers, got both, such as {_one_of_each(counts, kinds)}"
        )
    classes = sorted(counts)
    joined = np.concatenate(boxes)
    return DetectionOverview(
        classes=np.array(classes),
        counts=np.array([counts[label] for label in classes]),
        box_sizes=joined[:, 2:] - joined[:, :2],
        box_rows=np.repeat(np.arange(len(truths)), [len(each) for each in boxes]),
        image_sizes=np.array([truth.size for truth in truths]),
    )


def _one_of_each(labels: "Counter[str | int]", kinds: set[type]) -> list[str | int]:
    return [next(label for label in labels if type(label) is kind) for kind in sorted(kinds, key=str)]
