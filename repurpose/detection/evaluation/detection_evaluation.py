"""An evaluation measures what a detector found against what is true, with intervals, and prints as a table.

The 95 % intervals show how far the measures depend on which images were at hand: images are drawn again with
replacement, and the matches, computed once, are counted as often as their image was drawn. They are those of as many
images: the average precision of few is larger, on average, than that of many, as each precision is the best beyond.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_handler.errors import first_few, nearest
from model_handler.user_warnings import warn_user
from repurpose.detection.data.detections import Detections
from repurpose.detection.evaluation.average_precision import MEASURES, RankedClass
from repurpose.detection.evaluation.class_precisions import ClassPrecisions
from repurpose.detection.evaluation.matches import Matches, Truth, match_detections
from repurpose.detection.evaluation.resampling import intervals_of
from repurpose.detection.evaluation.score_calibration import ScoreCalibration, score_calibration_error
from repurpose.uncertainty.checks import check_count
from repurpose.uncertainty.class_report import MEASURES_HEAD, html_table, measures_text

__all__ = [
    "DetectionEvaluation",
    "PrecisionRecall",
    "evaluate_detections",
    "evaluate_matches",
    "refuse_without_objects",
]

_TITLES = {
    "ap50": "AP50 (COCO)",
    "ap": "AP (COCO, .50 to .95)",
    "voc_ap50": "AP50 (VOC, all points)",
    "voc07_ap50": "AP50 (VOC 2007, 11 points)",
    "calibration_error": "calibration error of scores",
}


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """The curve of one class at an overlap of .5, a point for each found box that is right, by falling score.

    Attributes
    ----------
    recall, precision, scores : ndarray of shape (n_right,)
        Where only boxes of this score or more are taken: the share of true boxes found, and of found boxes right.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection.evaluation import PrecisionRecall
    >>> PrecisionRecall(recall=np.array([0.5]), precision=np.array([1.0]), scores=np.array([0.9])).precision
    array([1.])
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class DetectionEvaluation:
    """Measures of a detector on images with known objects.

    Attributes
    ----------
    n_images, n_true, n_found : int
        Images, true boxes that count, and boxes found.
    ap50, ap : float
        Average precision by COCO's rule, the mean over the classes that the data have: at an overlap of .5, and the
        mean over overlaps of .5, .55, ..., .95. Crowds and difficult objects count neither as found nor as missed.
    voc_ap50, voc07_ap50 : float
        By VOC's rules at an overlap of .5: the whole area below the curve (since 2010), and the mean at 11 recalls
        (until 2007). Difficult objects and crowds are ignored.
    calibration_error : float or None
        How far scores, after calibration where there is one, lie from the share of boxes that match a true one at an
        overlap of .5, over 15 bins; None where no box was found.
    per_class : ClassPrecisions
        Numbers of boxes and average precisions of each class.
    curves : dict of label to PrecisionRecall
        Of the classes that have true boxes.
    intervals, interval_methods : dict of str to (float, float), dict of str to str
        The 95 % interval of each measure above, and how it was made.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import Detections, detection_rows
    >>> from repurpose.detection.evaluation import evaluate_detections
    >>> target = {"boxes": [[0, 0, 4, 4], [5, 5, 9, 9]], "labels": ["cat", "cat"]}
    >>> rows = detection_rows([(np.zeros((9, 9, 3), np.uint8), target)])
    >>> found = [Detections([[0, 0, 4, 4], [0, 5, 4, 9]], ["cat", "cat"], [0.9, 0.8])]
    >>> evaluation = evaluate_detections(found, list(rows.truths()), classes=["cat"])
    >>> evaluation.voc_ap50, evaluation.curves["cat"].recall
    (0.5, array([0.5]))
    """

    n_images: int
    n_true: int
    n_found: int
    ap50: float
    ap: float
    voc_ap50: float
    voc07_ap50: float
    calibration_error: float | None
    per_class: ClassPrecisions
    curves: Mapping[str | int, PrecisionRecall]
    intervals: dict[str, tuple[float, float]]
    interval_methods: dict[str, str]

    def __repr__(self) -> str:
        return f"{measures_text(self._heading(), _TITLES.values(), self._rows())}\n\n{self.per_class!r}"

    def _repr_html_(self) -> str:
        return html_table(self._heading(), MEASURES_HEAD, [*self._rows()]) + self.per_class._repr_html_()

    def _heading(self) -> str:
        images = f"{self.n_images} image{'s' if self.n_images > 1 else ''}"
        return f"Detection on {images}: {self.n_true} true boxes, {self.n_found} found"

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for name, title in _TITLES.items():
            value = getattr(self, name)
            if value is not None:
                low, high = self.intervals[name]
                yield title, f"{value:.4f}", f"{low:.4f} to {high:.4f}", self.interval_methods[name]


def evaluate_detections(
    found: Sequence[Detections],
    truths: Sequence[Truth],
    classes: Sequence[str | int] | np.ndarray,
    *,
    calibration: ScoreCalibration | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> DetectionEvaluation:
    """Match what was found in each image with what is true of it, and measure; see `evaluate_matches`.

    Parameters
    ----------
    found : sequence of Detections
        One an image, with scores as the detector gave them.
    truths : sequence of DetectionTruth or DetectionRow
        As many.
    classes : sequence of labels
        Those of training. Others among the true boxes give a UserWarning, and count as missed.
    calibration, n_bootstrap, random_state
        As in `evaluate_matches`.

    Raises
    ------
    ValueError
        As `match_detections` and `evaluate_matches` do.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import Detections, detection_rows, evaluate_detections
    >>> target = {"boxes": [[0, 0, 4, 4]], "labels": ["cat"]}
    >>> truths = list(detection_rows([(np.zeros((9, 9, 3), np.uint8), target)] * 5).truths())
    >>> found = [Detections([[0, 0, 4, 4]], ["cat"], [0.9])] * 5
    >>> evaluate_detections(found, truths, classes=["cat"])
    Detection on 5 images: 5 true boxes, 5 found
                                    value  95 % interval     interval by
    AP50 (COCO)                    1.0000  0.4782 to 1.0000  images agree: Clopper-Pearson
    ...
    """
    matches = match_detections(found, truths, classes)
    return evaluate_matches(matches, calibration=calibration, n_bootstrap=n_bootstrap, random_state=random_state)


def evaluate_matches(
    matches: Matches,
    *,
    calibration: ScoreCalibration | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> DetectionEvaluation:
    """Measure what `match_detections` matched.

    A `calibration` of scores enters `calibration_error` alone: average precision goes by the order of the scores that
    were matched, which ties would blur. `n_bootstrap` draws of images make the intervals. Raises ValueError where no
    true box counts, so that nothing can be found.
    """
    refuse_without_objects(len(matches.true_codes), matches.n_images)
    check_count("n_bootstrap", n_bootstrap)
    _tell_of_unknown(matches)
    ranked = [RankedClass(matches, code) for code in range(len(matches.classes))]
    scores, hits, images = matches.scores_and_hits()
    probabilities = scores if calibration is None else calibration.apply(scores)

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the measures of all classes and their means, for weights of images (n_images,)."""
        by_class = [each.measures(weights) for each in ranked]
        values = {f"{name} by class": np.array([each[name] for each in by_class]) for name in MEASURES}
        means = {name: _mean_of_known(values[f"{name} by class"]) for name in MEASURES}
        error = score_calibration_error(probabilities, hits, weights[images])
        return values | means | {"calibration_error": np.array(np.nan if error is None else error)}

    values = measure(np.ones(matches.n_images, dtype=np.int64))
    intervals, methods = intervals_of(
        measure, values, _n_telling(matches, images), matches.n_images, n_bootstrap, random_state
    )
    labels = matches.classes
    return DetectionEvaluation(
        n_images=matches.n_images,
        n_true=len(matches.true_codes),
        n_found=len(matches.codes),
        **{name: float(values[name]) for name in MEASURES},
        calibration_error=float(values["calibration_error"]) if len(hits) else None,
        per_class=_per_class(matches, ranked, values, intervals),
        curves={label: PrecisionRecall(*each.curve()) for label, each in zip(labels, ranked) if each.n_true},
        intervals={name: tuple(intervals[name].tolist()) for name in _TITLES if not np.isnan(values[name])},
        interval_methods={name: methods[name] for name in _TITLES if not np.isnan(values[name])},
    )


def refuse_without_objects(n_true: int, n_images: int) -> None:
    """Raise ValueError where no image has an object that counts."""
    if not n_true:
        raise ValueError(
            f"none of the {n_images} images has an object that counts, so that there is nothing to find and average "
            "precision is not defined; give images with objects among them (those without show false alarms)"
        )


def _per_class(
    matches: Matches,
    ranked: Sequence[RankedClass],
    values: Mapping[str, np.ndarray],
    intervals: Mapping[str, np.ndarray],
) -> ClassPrecisions:
    return ClassPrecisions(
        labels=matches.classes,
        n_true=np.array([each.n_true for each in ranked]),
        n_found=np.array([each.n_found for each in ranked]),
        **{name: values[f"{name} by class"] for name in MEASURES},
        ap50_intervals=intervals["ap50 by class"],
        ap_intervals=intervals["ap by class"],
        in_training=np.arange(len(ranked)) < matches.n_known,
    )


def _n_telling(matches: Matches, found_images: np.ndarray) -> dict[str, np.ndarray]:
    """Return how many images tell something of each measure: those with true boxes, with found ones for calibration."""
    by_class = [len(np.unique(matches.true_images[matches.true_codes == code])) for code in range(len(matches.classes))]
    return {
        **{f"{name} by class": np.array(by_class) for name in MEASURES},
        **{name: np.array(len(np.unique(matches.true_images))) for name in MEASURES},
        "calibration_error": np.array(len(np.unique(found_images))),
    }


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    return known.mean() if len(known) else np.array(np.nan)


def _tell_of_unknown(matches: Matches) -> None:
    known, unknown = matches.classes[: matches.n_known], matches.classes[matches.n_known :]
    counts = np.bincount(matches.true_codes, minlength=len(matches.classes))[matches.n_known :].tolist()
    if unknown:
        counted = [f"{label!r} ({n} box{'es' * (n > 1)})" for label, n in zip(unknown, counts)]
        near = nearest(str(unknown[0]), [str(label) for label in known])
        warn_user(
            f"the data have objects of classes that the detector was not trained on: {first_few(counted, 5)}; they "
            f"count as missed, with an average precision of 0. Nearest classes of training: {near}. Rename them, leave "
            "them out, or mark them as ignored",
        )
