"""What is shown for a class, in tables, sets and on the command line: its name where one is known, else its label."""

from collections import Counter
from typing import Any

import numpy as np

from model_handler import Features
from model_handler.data import named_classes

__all__ = ["class_names"]


def class_names(data: Any, classes: np.ndarray) -> np.ndarray:
    """A str for each of the `classes` that were learned from `data`, no two the same: (n_classes,).

    Names come from a dataset whose labels are places in its `classes`, or from the `Features` of one. Where two classes
    have one name, their labels stand beside it.
    """
    labels = [str(label) for label in classes.tolist()]
    names = data.class_names if isinstance(data, Features) else named_classes(data)
    if names is None or classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= len(names):
        return np.array(labels, dtype=str)
    shown = [names[label] for label in classes.tolist()]
    often = Counter(shown)
    return np.array([f"{name} ({label})" if often[name] > 1 else name for name, label in zip(shown, labels)], dtype=str)
