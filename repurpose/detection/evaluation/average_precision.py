"""Average precision of one class: the area below the curve of precision over recall, by three rules.

COCO reads precision at 101 recalls (its code, `accumulate`); VOC since 2010 takes the whole area, and until 2007 read
it at 11 recalls (Everingham et al., 2010, IJCV 88, section 4.2). Each replaces precision by the best that is reached
at this recall or a higher one. Images may have weights, which are whole numbers: how often a bootstrap drew them. No
box is matched again for that.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from repurpose.detection.evaluation.matches import Matches

__all__ = ["COCO_RECALLS", "MEASURES", "RankedClass", "all_points", "at_11_recalls", "at_101_recalls"]

MEASURES = ("ap50", "ap", "voc_ap50", "voc07_ap50")
COCO_RECALLS = np.linspace(0.0, 1.0, 101)  # as COCO's own code makes them, rounding included


@dataclass(frozen=True, eq=False)
class _Marks:
    """Found boxes, in the order of scores, that are right by one rule, and the images of those that count as neither.

    A box that is right of an image without a weight changes nothing: it adds no recall and has no better precision.
    """

    hits: np.ndarray  # places
    hit_images: np.ndarray
    neutral_images: np.ndarray
    n_neutral_before: np.ndarray  # each hit

    @classmethod
    def of(cls, hits: np.ndarray, neutral: np.ndarray, images: np.ndarray) -> Self:
        places, neutral_places = np.flatnonzero(hits), np.flatnonzero(neutral)
        before = np.searchsorted(neutral_places, places)
        return cls(places, images[places], images[neutral_places], before)

    def counts(self, weights: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many boxes are right, and how many count, up to each right one; `ranks` are those of all boxes."""
        n_hits, n_counted = np.cumsum(weights[self.hit_images]), ranks[self.hits]
        if len(self.neutral_images):
            n_neutral = np.concatenate([[0], np.cumsum(weights[self.neutral_images])])
            n_counted = n_counted - n_neutral[self.n_neutral_before]
        return n_hits, n_counted


class RankedClass:
    """The found boxes of one class in the order of their scores, the surest first; ties stay in the order of images.

    Parameters
    ----------
    matches : Matches
    code : int
        The class.
    """

    def __init__(self, matches: Matches, code: int) -> None:
        rows = np.flatnonzero(matches.codes == code)
        order = rows[np.argsort(-matches.scores[rows], kind="stable")]
        self.scores = matches.scores[order]
        self._n_images = matches.n_images
        self._images = matches.images[order]
        self._true_images = matches.true_images[matches.true_codes == code]
        rules = zip(matches.hits[order].T, matches.neutral[order].T)
        self._coco = [_Marks.of(hits, neutral, self._images) for hits, neutral in rules]
        self._voc = _Marks.of(matches.voc_hits[order], matches.voc_neutral[order], self._images)

    @property
    def n_found(self) -> int:
        """How many boxes were found."""
        return len(self.scores)

    @property
    def n_true(self) -> int:
        """How many true boxes count."""
        return len(self._true_images)

    def measures(self, weights: np.ndarray) -> dict[str, float]:
        """Compute the four `MEASURES` for weights of images (n_images,); NaN where no true box has a weight."""
        n_true = int(weights[self._true_images].sum())
        if not n_true:
            return dict.fromkeys(MEASURES, np.nan)
        ranks = np.cumsum(weights[self._images])
        by_threshold = [at_101_recalls(*marks.counts(weights, ranks), n_true) for marks in self._coco]
        voc = self._voc.counts(weights, ranks)
        return {
            "ap": float(np.mean(by_threshold)),
            "ap50": by_threshold[0],
            "voc_ap50": all_points(*voc, n_true),
            "voc07_ap50": at_11_recalls(*voc, n_true),
        }

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return recall, precision and score at each found box that is right, by COCO's rule at an overlap of .5."""
        marks, ranks = self._coco[0], np.arange(1, self.n_found + 1)
        n_hits, n_counted = marks.counts(np.ones(self._n_images, dtype=np.int64), ranks)
        return n_hits / max(self.n_true, 1), n_hits / n_counted, self.scores[marks.hits]


def at_101_recalls(n_hits: np.ndarray, n_counted: np.ndarray, n_true: int) -> float:
    """Compute COCO's mean of the best precision at 101 recalls from 0 to 1.

    `n_hits` and `n_counted` (n,) are how many found boxes are right, and how many count, up to each right one.
    """
    best = _best(n_hits, n_counted)
    places = np.searchsorted(n_hits / n_true, COCO_RECALLS)
    return float(best[places].sum() / len(COCO_RECALLS))


def all_points(n_hits: np.ndarray, n_counted: np.ndarray, n_true: int) -> float:
    """Compute the area below the best precision, VOC's rule since 2010; arguments as in `at_101_recalls`."""
    gained = np.diff(n_hits, prepend=0)
    return float(_best(n_hits, n_counted)[:-1] @ gained / n_true)


def at_11_recalls(n_hits: np.ndarray, n_counted: np.ndarray, n_true: int) -> float:
    """Compute the mean of the best precision at the recalls 0, .1, ..., 1, VOC's rule until 2007.

    Recall k / n is compared with t / 10 as 10 k with t n: written as 0.3, three tenths may miss 3 of 10.
    """
    places = np.searchsorted(10 * n_hits, np.arange(11) * n_true)
    return float(_best(n_hits, n_counted)[places].mean())


def _best(n_hits: np.ndarray, n_counted: np.ndarray) -> np.ndarray:
    """Return the best precision at each right box and all behind it, and 0 at the end: (n + 1,)."""
    best = np.zeros(len(n_hits) + 1)
    np.maximum.accumulate((n_hits / np.maximum(n_counted, 1))[::-1], out=best[-2::-1])
    return best
