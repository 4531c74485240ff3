"""Matches of found boxes with true ones, computed once an image: all that average precision and calibration need.

Two rules are followed side by side. COCO (Lin et al., 2014, arXiv:1405.0312, and its evaluation code): in the order of
scores, each found box takes the true box of its class and the largest overlap that is still free, at each of ten
thresholds; ignored true boxes (crowds) may be taken by any number, and whoever takes one counts neither as right nor
as wrong; what part of the found box lies inside is their overlap. VOC (Everingham et al., 2010, IJCV 88): each found
box belongs to the true box of the largest overlap, free or not, at the threshold .5; the first one is right, the others
are wrong; an ignored (difficult) one counts as neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model_handler.errors import nearest
from repurpose.detection.data.detections import Detections

__all__ = ["IOU_THRESHOLDS", "MAX_FOUND", "Matches", "Truth", "match_detections", "overlaps"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCO's own code makes them
MAX_FOUND = 100  # found boxes of one class and image that COCO looks at
_VOC_IOU = 0.5
_AT_MOST = 1 - 1e-10  # COCO's: so that an overlap of 1 always suffices


class Truth(Protocol):
    """What is true of an image, such as a `DetectionRow` or `DetectionTruth`: boxes (n, 4), labels and ignored (n,)."""

    @property
    def boxes(self) -> np.ndarray:
        """x1, y1, x2, y2 in pixels."""

    @property
    def labels(self) -> np.ndarray:
        """Names of classes."""

    @property
    def ignored(self) -> np.ndarray:
        """Which objects count neither as found nor as missed."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Found boxes and what each matched, image by image, within an image by falling score.

    Attributes
    ----------
    classes : tuple
        The labels; first those of training, then any others among the true boxes.
    n_known : int
        How many of them the detector was trained on.
    n_images : int
    images, codes, scores : ndarray of shape (n_found,)
        The image, class (a place in `classes`) and score of each found box.
    hits, neutral : bool ndarray of shape (n_found, 10)
        By COCO's rule: which are right, and which are neither right nor wrong, at each of `IOU_THRESHOLDS`.
    voc_hits, voc_neutral : bool ndarray of shape (n_found,)
        The same by VOC's rule.
    true_images, true_codes : int ndarray of shape (n_true,)
        The image and class of each true box that counts.
    """

    classes: tuple[str | int, ...]
    n_known: int
    n_images: int
    images: np.ndarray
    codes: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    neutral: np.ndarray
    voc_hits: np.ndarray
    voc_neutral: np.ndarray
    true_images: np.ndarray
    true_codes: np.ndarray

    def scores_and_hits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores, whether each matches a true box at an overlap of .5, and images: of boxes that count."""
        counted = ~self.neutral[:, 0]
        return self.scores[counted], self.hits[counted, 0], self.images[counted]


def match_detections(
    found: Sequence[Detections], truths: Sequence[Truth], classes: Sequence[str | int] | np.ndarray
) -> Matches:
    """Match what was found in each image with what is true of it, class by class; `classes` are those of training.

    True boxes of other classes count, as no detector can find them: they come behind `classes`. Raises ValueError if
    there are not as many of both, and for found labels that are not among the classes.
    """
    if len(found) != len(truths):
        raise ValueError(f"{len(truths)} images need as many results of a detector, got {len(found)}")
    known = tuple(np.asarray(classes).tolist())
    counted = {label for truth in truths for label in truth.labels[~truth.ignored].tolist()}
    places = {label: code for code, label in enumerate((*known, *sorted(counted - set(known), key=str)))}
    parts = [_of_image(*pair, places, number) for number, pair in enumerate(zip(found, truths))]
    truth_codes = [_codes_of_true(truth.labels[~truth.ignored], places) for truth in truths]

    def joined(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(part[name] for part in parts)])

    return Matches(
        classes=tuple(places),
        n_known=len(known),
        n_images=len(truths),
        images=np.repeat(np.arange(len(parts)), [len(part["scores"]) for part in parts]),
        codes=joined("codes", (), np.int64),
        scores=joined("scores", (), np.float64),
        hits=joined("hits", IOU_THRESHOLDS.shape, bool),
        neutral=joined("neutral", IOU_THRESHOLDS.shape, bool),
        voc_hits=joined("voc_hits", (), bool),
        voc_neutral=joined("voc_neutral", (), bool),
        true_images=np.repeat(np.arange(len(truths)), [len(codes) for codes in truth_codes]),
        true_codes=np.concatenate([np.zeros(0, np.int64), *truth_codes]),
    )


def overlaps(found: np.ndarray, true: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Compute the overlap of boxes (n, 4) and (m, 4), x1, y1, x2, y2: intersection over union, float64 (n, m).

    For `ignored` (m,) true boxes it is the intersection over the area of the found box, as COCO has it for crowds.
    """
    found, true = found.astype(np.float64), true.astype(np.float64)
    sides = np.minimum(found[:, None, 2:], true[None, :, 2:]) - np.maximum(found[:, None, :2], true[None, :, :2])
    common = np.maximum(sides, 0).prod(axis=2)
    areas, true_areas = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (found, true))
    whole = np.where(ignored, areas[:, None], areas[:, None] + true_areas - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def _of_image(found: Detections, truth: Truth, places: dict[str | int, int], number: int) -> dict[str, np.ndarray]:
    """Match the boxes of one image; arrays over its found boxes by the names of `Matches`."""
    codes, true_codes = _codes_of_found(found.labels, places, number), _codes_of_true(truth.labels, places)
    n_found = len(codes)
    hits, neutral = (np.zeros((n_found, len(IOU_THRESHOLDS)), dtype=bool) for _ in range(2))
    voc_hits, voc_neutral = np.zeros(n_found, dtype=bool), np.zeros(n_found, dtype=bool)
    for code in np.unique(codes).tolist():
        rows = np.flatnonzero(codes == code)
        neutral[rows[MAX_FOUND:]] = True  # not looked at
        of_class = true_codes == code
        ignored, boxes = truth.ignored[of_class], truth.boxes[of_class]
        if len(boxes):
            looked_at = rows[:MAX_FOUND]
            iou = overlaps(found.boxes[looked_at], boxes, ignored)
            hits[looked_at], neutral[looked_at] = _match_as_coco(iou, ignored)
            plain = overlaps(found.boxes[rows], boxes, np.zeros_like(ignored))
            voc_hits[rows], voc_neutral[rows] = _match_as_voc(plain, ignored)
    return {
        "codes": codes,
        "scores": found.scores,
        "hits": hits,
        "neutral": neutral,
        "voc_hits": voc_hits,
        "voc_neutral": voc_neutral,
    }


def _match_as_coco(iou: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which found boxes are right, and which neither right nor wrong, of overlaps (n_found, n_true)."""
    thresholds = np.minimum(IOU_THRESHOLDS, _AT_MOST)
    hits, neutral = (np.zeros((len(iou), len(thresholds)), dtype=bool) for _ in range(2))
    free = np.ones((len(thresholds), iou.shape[1]), dtype=bool)
    for row in np.flatnonzero(iou.max(axis=1) >= thresholds[0]):  # the others match nothing
        possible = (iou[row] >= thresholds[:, None]) & free
        counted = possible & ~ignored
        hits[row] = counted.any(axis=1)
        # Among equal overlaps COCO takes the last.
        best = iou.shape[1] - 1 - np.where(counted, iou[row], -1.0)[:, ::-1].argmax(axis=1)
        free[hits[row], best[hits[row]]] = False
        neutral[row] = possible.any(axis=1) & ~hits[row]
    return hits, neutral


def _match_as_voc(iou: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which found boxes are right, and which neither right nor wrong, of overlaps (n_found, n_true)."""
    best = iou.argmax(axis=1)
    matched = iou.max(axis=1) >= _VOC_IOU
    counted = np.flatnonzero(matched & ~ignored[best])
    hits = np.zeros(len(iou), dtype=bool)
    hits[counted[np.unique(best[counted], return_index=True)[1]]] = True  # the first of each true box
    return hits, matched & ignored[best]


def _codes_of_found(labels: np.ndarray, places: dict[str | int, int], number: int) -> np.ndarray:
    """Return the places of labels (n,). Raises ValueError for one without."""
    if unknown := [label for label in labels.tolist() if label not in places]:
        near = nearest(str(unknown[0]), [str(known) for known in places])
        raise ValueError(
            f"image {number}: {unknown[0]!r} was found, which is not among the classes of training; nearest: {near}"
        )
    return np.array([places[label] for label in labels.tolist()], dtype=np.int64)


def _codes_of_true(labels: np.ndarray, places: dict[str | int, int]) -> np.ndarray:
    """Return the places of labels (n,), -1 of ignored objects of a class that is never found."""
    return np.array([places.get(label, -1) for label in labels.tolist()], dtype=np.int64)
