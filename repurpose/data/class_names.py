"""Classes are shown by name where one is known, else by label: in tables, sets and on the command line."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from repurpose.data.kinds import class_names_in

__all__ = ["class_names", "names_of_given", "names_of_labels"]


def class_names(data: object, classes: np.ndarray) -> np.ndarray:
    """Return a str for each of the `classes` that were learned from `data`, no two the same: (n_classes,).

    Names come from a dataset whose labels are places in its `classes`, or from the `Features` of one. Where two classes
    have one name, their labels stand beside it.
    """
    labels = [str(label) for label in classes.tolist()]
    names = class_names_in(data)
    if names is None or classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= len(names):
        return np.array(labels, dtype=str)
    shown = [names[label] for label in classes.tolist()]
    often = Counter(shown)
    return np.array([f"{name} ({label})" if often[name] > 1 else name for name, label in zip(shown, labels)], dtype=str)


def names_of_labels(labels: np.ndarray, classes: np.ndarray, names_of_classes: np.ndarray) -> np.ndarray:
    """Give the names to show for predicted labels: (n_samples,), dtype object; None stays None.

    `names_of_classes` (n_classes,) are those of the `classes`, as `class_names` gives them.
    """
    names = dict(zip(classes.tolist(), names_of_classes.tolist()))
    return np.array([names.get(label) for label in labels.tolist()], dtype=object)


def names_of_given(labels: Sequence[str], classes: np.ndarray, names_of_classes: np.ndarray) -> list[str]:
    """Give the names to show for true labels that came as text, such as the names of folders.

    A label or a name of a class becomes that name; text that is neither stays as it is.
    """
    names = {str(label): name for label, name in zip(classes.tolist(), names_of_classes.tolist())}
    names |= {name: name for name in names_of_classes.tolist()}
    return [names.get(label, label) for label in labels]
