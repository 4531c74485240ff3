"""Random truths and detections for tests: boxes that overlap, ties, crowds, empty images, several classes."""

import numpy as np

from repurpose.detection import Detections, DetectionTruth

CLASSES = ("cat", "dog", "owl")
SIZE = (64, 96)  # height, width


def truth(boxes: object, labels: list[str | int], ignored: object = None) -> DetectionTruth:
    array = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    flags = np.zeros(len(array), dtype=bool) if ignored is None else np.asarray(ignored, dtype=bool)
    return DetectionTruth(array, np.array(labels, dtype=object), flags, SIZE)


def nothing() -> Detections:
    return Detections(np.zeros((0, 4)), np.array([]), np.array([]))


def perfect(of: DetectionTruth) -> Detections:
    """What a detector without a mistake finds: each object that counts."""
    return Detections(of.boxes[~of.ignored], of.labels[~of.ignored], np.ones(int((~of.ignored).sum())))


def random_boxes(rng: np.random.RandomState, n: int) -> np.ndarray:
    """Boxes with whole numbers, of which many overlap by exactly .5 and the like."""
    corner = rng.randint(0, 24, size=(n, 2))
    return np.concatenate([corner, corner + rng.randint(4, 24, size=(n, 2))], axis=1).astype(np.float32)


def random_scene(
    rng: np.random.RandomState, n_images: int, *, ties: bool = True
) -> tuple[list[Detections], list[DetectionTruth]]:
    """Truths and detections, of which some images have neither; `ties` of scores within an image and across images."""
    found, truths = [], []
    for _ in range(n_images):
        n_true, n_more = rng.randint(0, 6), rng.randint(0, 6)
        boxes = random_boxes(rng, n_true)
        labels = rng.choice(CLASSES, n_true)
        truths.append(truth(boxes, labels.tolist(), rng.random_sample(n_true) < 0.2))
        near = boxes.repeat(2, axis=0) + rng.randint(-2, 3, size=(2 * n_true, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        given = np.concatenate([near, random_boxes(rng, n_more)])
        named = np.concatenate([labels.repeat(2), rng.choice(CLASSES, n_more)])
        kept = rng.random_sample(len(given)) < 0.7
        scores = rng.randint(1, 20, size=int(kept.sum())) / 20 if ties else rng.random_sample(int(kept.sum()))
        found.append(Detections(given[kept], named[kept], scores))
    return found, truths
