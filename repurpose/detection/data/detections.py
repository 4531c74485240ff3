"""`Detections`: the boxes, labels and scores that a detector finds in one image."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Detections"]


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single yes-or-no ==
class Detections:
    """What was found in one image, the surest first; given in any order, and sorted by score when made.

    Attributes
    ----------
    boxes : float32 ndarray of shape (n, 4)
        Left, top, right and bottom edge, x1, y1, x2, y2, in pixels of the original image.
    labels : ndarray of shape (n,)
        Names of classes, text or whole numbers as in training.
    scores : float64 ndarray of shape (n,)
        From 0 to 1, falling.

    Raises
    ------
    ValueError
        If shapes differ, a box is not finite, or a score is not from 0 to 1.

    Examples
    --------
    >>> from repurpose.detection import Detections
    >>> found = Detections(boxes=[[0, 0, 9, 9], [5, 5, 20, 20]], labels=["dog", "cat"], scores=[0.3, 0.9])
    >>> found.labels.tolist(), found.at_least(0.5).boxes.tolist(), len(found)
    (['cat', 'dog'], [[5.0, 5.0, 20.0, 20.0]], 2)
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        boxes, labels, scores = (_as_array(given) for given in (self.boxes, self.labels, self.scores))
        boxes, scores = boxes.astype(np.float32), scores.astype(np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if boxes.shape != (scores.size, 4) or labels.shape != scores.shape or scores.ndim != 1:
            raise ValueError(
                "detections need boxes (n, 4), labels (n,) and scores (n,), got shapes "
                f"{boxes.shape}, {labels.shape} and {scores.shape}"
            )
        if not np.isfinite(boxes).all():
            wrong = int((~np.isfinite(boxes).all(axis=1)).argmax())
            raise ValueError(f"boxes of detections must be finite, and box {wrong} is {boxes[wrong].tolist()}")
        if not ((scores >= 0) & (scores <= 1)).all():
            wrong = int((~((scores >= 0) & (scores <= 1))).argmax())
            raise ValueError(f"scores must be from 0 to 1, and score {wrong} is {scores[wrong]:g}")
        order = np.argsort(-scores, kind="stable")
        for name, array in (("boxes", boxes), ("labels", labels), ("scores", scores)):
            object.__setattr__(self, name, array[order])

    def __len__(self) -> int:
        return len(self.scores)

    def at_least(self, min_score: float) -> "Detections":
        """Return those whose score is `min_score` or more."""
        n_kept = int((self.scores >= min_score).sum())
        return Detections(self.boxes[:n_kept], self.labels[:n_kept], self.scores[:n_kept])


def _as_array(values: object) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
