"""Average precision of each class, as a table: a mean over classes hides the one that is never found."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from repurpose.uncertainty.class_report import Cells, aligned, html_table, printable

__all__ = ["ClassPrecisions"]

_MAX_CLASSES = 20  # in the printed table, the worst first when there are more


@dataclass(frozen=True, eq=False, repr=False)
class ClassPrecisions:
    """Numbers of boxes and average precisions of each class, in the order of `labels`; NaN without a true box.

    Attributes
    ----------
    labels : tuple
        The classes: those of training, then any others that the data have.
    n_true, n_found : int ndarray of shape (n_classes,)
        True boxes that count, and boxes found.
    ap50, ap, voc_ap50, voc07_ap50 : ndarray of shape (n_classes,)
        As in `DetectionEvaluation`.
    ap50_intervals, ap_intervals : ndarray of shape (n_classes, 2)
        95 % intervals.
    in_training : bool ndarray of shape (n_classes,)
        Whether the detector was trained on the class; no other is ever found.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.detection import Detections, detection_rows, evaluate_detections
    >>> picture = np.zeros((9, 9, 3), np.uint8)
    >>> rows = detection_rows([(picture, {"boxes": [[0, 0, 4, 4], [5, 5, 9, 9]], "labels": ["cat", "dog"]})])
    >>> found = [Detections([[0, 0, 4, 4]], ["cat"], [0.9])]
    >>> per_class = evaluate_detections(found, list(rows.truths()), ["cat", "dog"]).per_class
    >>> per_class.labels, per_class.ap50, per_class.n_found
    (('cat', 'dog'), array([1., 0.]), array([1, 0]))
    """

    labels: tuple[str | int, ...]
    n_true: np.ndarray
    n_found: np.ndarray
    ap50: np.ndarray
    ap: np.ndarray
    voc_ap50: np.ndarray
    voc07_ap50: np.ndarray
    ap50_intervals: np.ndarray
    ap_intervals: np.ndarray
    in_training: np.ndarray

    def __repr__(self) -> str:
        title, head, rows = self.table()
        return "\n".join([title, *aligned(head, rows)])

    def _repr_html_(self) -> str:
        return html_table(*self.table())

    def table(self) -> tuple[str, Cells, list[Cells]]:
        """Return title, heading and rows of what is shown."""
        order, title = np.arange(len(self.labels)), "classes"
        if len(order) > _MAX_CLASSES:
            order = np.argsort(self.ap50, kind="stable")[:_MAX_CLASSES]  # NaN comes last
            title = f"the {_MAX_CLASSES} classes of lowest AP50, of {len(self.labels)}"
        head = ("", "true", "found", "AP50", "95 % interval", "AP", "95 % interval", "VOC AP50")
        return title, head, [tuple(self._cells(int(code))) for code in order]

    def _cells(self, code: int) -> Iterator[str]:
        yield printable(str(self.labels[code])) + ("" if self.in_training[code] else " (not in training)")
        yield from (str(self.n_true[code]), str(self.n_found[code]))
        for values, intervals in ((self.ap50, self.ap50_intervals), (self.ap, self.ap_intervals)):
            low, high = intervals[code]
            yield from ("-", "") if np.isnan(values[code]) else (f"{values[code]:.3f}", f"{low:.3f} to {high:.3f}")
        yield "-" if np.isnan(self.voc_ap50[code]) else f"{self.voc_ap50[code]:.3f}"
