"""Class weights follow scikit-learn: a number for each of the user's labels, or "balanced"."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_handler.errors import nearest
from repurpose.parameters import is_positive

__all__ = ["ClassWeight", "class_weight_mistakes", "weight_of_each_class", "weight_of_each_row"]

ClassWeight = Mapping[Any, float] | str | None  # by label; "balanced"


def weight_of_each_row(
    class_weight: ClassWeight, classes: np.ndarray, codes: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Multiply the weight of each row with that of its class: (n_samples,), or None where all count 1."""
    of_classes = weight_of_each_class(class_weight, classes, codes, sample_weight)
    if of_classes is None:
        return sample_weight
    return of_classes[codes] if sample_weight is None else of_classes[codes] * sample_weight


def weight_of_each_class(
    class_weight: ClassWeight, classes: np.ndarray, codes: np.ndarray, sample_weight: np.ndarray | None = None
) -> np.ndarray | None:
    """Return weights of shape (n_classes,); ``"balanced"`` counts a row `sample_weight` times.

    Raises ValueError for a class that was not in the training data.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):  # "balanced"
        n_samples = len(codes) if sample_weight is None else sample_weight.sum()
        return n_samples / (len(classes) * np.bincount(codes, sample_weight))
    known = classes.tolist()
    if unknown := [label for label in class_weight if label not in known]:
        hints = [f"{label!r} (nearest: {nearest(str(label), map(str, known))})" for label in unknown]
        raise ValueError(f"class_weight names classes that are not among the labels: {', '.join(hints)}")
    weights = np.array([float(class_weight.get(label, 1.0)) for label in known])
    if not weights.any():
        raise ValueError("class_weight gives every class the weight 0; at least one class must count")
    return weights


def class_weight_mistakes(class_weight: object) -> list[str]:
    """List what is wrong with the parameter, before the labels are known."""
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        return []
    if not isinstance(class_weight, Mapping):
        return [f'class_weight must be a dict of label to weight, "balanced" or None, got {class_weight!r}']
    wrong = {label: weight for label, weight in class_weight.items() if not (is_positive(weight) or weight == 0)}
    return [f"a class weight must be a finite number of at least 0, got {wrong}"] if wrong else []
