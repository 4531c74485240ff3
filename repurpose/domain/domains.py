"""Features of a source domain and of a target domain are brought together: classes, weights, and what cannot be.

What comes of several source domains is pooled, each with the same weight in sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler import Features
from repurpose.data.feature_rows import check_rows
from repurpose.data.groups import joined_to_singles
from repurpose.data.labelled_data import given_labels
from repurpose.data.row_names import naming_rows
from repurpose.domain.reading.source_domains import agreed_classes, naming_domain, source_labels
from repurpose.domain.reading.target_labels import TargetLabels
from repurpose.meta_model.outliers import bring_back_outliers

__all__ = [
    "Domains",
    "bring_together",
    "check_widths",
    "equal_weights",
    "judged_target",
    "read_source",
]

_TARGET = "target"  # what errors call the other one


@dataclass(frozen=True, eq=False)
class Domains:
    """Rows of features of two domains, in one set of columns.

    Attributes
    ----------
    source, target : float32 ndarray of shape (n_source, n_features), (n_target, n_features)
    source_codes, target_codes : int ndarray of shape (n_source,), (n_target,)
        Places in `classes`; -1 for rows of the target without a label.
    source_domains : int ndarray of shape (n_source,)
        Places in `names`.
    source_weights : float64 ndarray of shape (n_source,)
        1 on average, with the same sum in every source domain.
    classes : ndarray of shape (n_classes,)
    names : tuple of str
        The source domains.
    widths : dict of str to int
        How many columns each layer has.
    target_groups : int ndarray of shape (n_target,) or None
        Which rows of the target belong together.
    """

    source: np.ndarray
    target: np.ndarray
    source_codes: np.ndarray
    target_codes: np.ndarray
    source_domains: np.ndarray
    source_weights: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    widths: dict[str, int]
    target_groups: np.ndarray | None = None

    def groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the groups of all source rows, each by itself, and behind them of `rows` of the target (n_rows,)."""
        groups = self.target_groups
        return None if groups is None else joined_to_singles(len(self.source), groups[rows])

    @property
    def labelled(self) -> np.ndarray:
        """The numbers of the rows of the target that have a label: (n_labelled,)."""
        return np.flatnonzero(self.target_codes >= 0)


def read_source(name: str, data: Any, extract: Callable[[Any], Features]) -> tuple[Features, np.ndarray]:
    """Return the features of a source domain, without gross outliers, and its labels (n_rows,), all judged.

    Raises ValueError for labels that are missing or no classes, and for NaN and infinite features.
    """
    if (given := given_labels(data)) is not None:
        source_labels(given, name)  # before the network runs
    with naming_domain(name):
        features = extract(data)
    labels = source_labels(features.labels, name)
    return _judged(features, np.unique(labels, return_inverse=True)[1], data, f"source_data {name!r}"), labels


def judged_target(features: Features, labels: TargetLabels, data: object) -> Features:
    """Return the features of the target without gross outliers. Raises ValueError for NaN and infinite features."""
    codes = np.zeros(len(features), np.int64)  # rows without a label are as one class
    codes[labels.rows] = 1 + np.unique(labels.values, return_inverse=True)[1]
    return _judged(features, codes, data, "the target")


def bring_together(
    sources: Mapping[str, Features], labels: Mapping[str, np.ndarray], target: Features, of_target: TargetLabels
) -> Domains:
    """Bring the features of source domains, with the `labels` of each (n_rows,), and of the target together.

    The classes are those of the target where every row of it has a label, else those of either. Rows of the source of
    other classes are left out, with a UserWarning. Raises ValueError for domains with other layers or widths, with
    labels of another kind, without a class in common, with rows that are all the same, and for a source of which one
    row is left.
    """
    for name, features in [*sources.items(), (_TARGET, target)]:
        _check_rows_differ(features, name)
        check_widths(features, target, name)
    agreed = agreed_classes({name: labels[name] for name in sources}, of_target)
    kept = np.flatnonzero(agreed.codes >= 0)
    places = np.repeat(np.arange(len(sources)), [len(features) for features in sources.values()])[kept]
    return Domains(
        source=np.concatenate([features.matrix for features in sources.values()])[kept],
        target=target.matrix,
        source_codes=agreed.codes[kept],
        target_codes=of_target.codes(agreed.classes),
        source_domains=places,
        source_weights=equal_weights(places),
        classes=agreed.classes,
        names=tuple(sources),
        widths=_widths(target),
    )


def equal_weights(places: np.ndarray) -> np.ndarray:
    """Return weights of rows, 1 on average, that sum to the same in each domain."""
    counts = np.bincount(places)
    return len(places) / ((counts > 0).sum() * counts[places])


def _judged(features: Features, codes: np.ndarray, data: object, domain: str) -> Features:
    name_of_row = naming_rows(data)

    def name_of(row: int) -> str:
        return f"{name_of_row(row)} of {domain}"

    check_rows(features, codes, name_of)
    return bring_back_outliers(features, codes, name_of=name_of)


def _check_rows_differ(features: Features, name: str) -> None:
    if len(features) < 2:
        raise ValueError(
            f"the domain {name!r} has {len(features)} row: how domains differ cannot be told from it; give two rows or "
            "more, also without labels"
        )
    if not np.ptp(features.matrix, axis=0).any():
        raise ValueError(
            f"all {len(features)} rows of the domain {name!r} have the same features, so that there is nothing to tell "
            "rows or domains by; look at the inputs, or name another layer"
        )


def check_widths(features: Features, target: Features, name: str) -> None:
    """Raise ValueError where features of the domain `name` have other layers or widths than those of the target."""
    if (given := _widths(features)) != (expected := _widths(target)):
        raise ValueError(
            f"the domains have other features: {given} in {name!r}, {expected} in the target (width by layer); extract "
            "both with one network, at the same layers"
        )


def _widths(features: Features) -> dict[str, int]:
    return {name: array.shape[1] for name, array in features.values.items()}
