"""Features of a source domain and of a target domain are brought together: classes, weights, and what cannot be.

What comes of several source domains is pooled, each with the same weight in sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler import Features
from model_handler.data.labels import LABEL_KEY
from model_handler.errors import first_few
from model_handler.user_warnings import warn_user
from repurpose.data.column_names import column_names
from repurpose.data.feature_rows import check_rows
from repurpose.data.kinds import class_names_in, is_dict_of_arrays, is_features
from repurpose.data.labelled_data import given_labels, needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels, label_array, label_codes
from repurpose.data.row_names import naming_rows
from repurpose.domain.target_labels import TargetLabels
from repurpose.meta_model.outliers import bring_back_outliers

__all__ = [
    "Domains",
    "bring_together",
    "check_same_columns",
    "check_widths",
    "equal_weights",
    "judged_target",
    "naming_data",
    "read_source",
    "refuse_cut",
    "source_domains",
]

_NO_SOURCE_DATA = (
    "needs source_data: labelled data of the neighbouring domain, of any kind that data may be, or a dict of several "
    "such domains by name"
)
_IN_TRAINING = (
    "give repurpose(data, source_data=(X, y)). Without any, LrRepurposer and its like learn from the target alone"
)
_CUT = (
    "Searches and cross-validation of scikit-learn cut what is as long as the target, and make a list of a dataset: "
    'give source_data={"source": ...}, which they keep whole'
)
_ONE_DOMAIN = "source"  # what it is called where no dict gives it a name
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

    @property
    def labelled(self) -> np.ndarray:
        """The numbers of the rows of the target that have a label: (n_labelled,)."""
        return np.flatnonzero(self.target_codes >= 0)


def source_domains(source_data: object, class_name: str, advice: str = _IN_TRAINING) -> dict[str, object]:
    """Return the labelled data of each source domain by its name. Raises ValueError, with advice, where there are none.

    A dict with the key "labels" is one domain, inputs by name; every other dict is several.
    """
    if source_data is None:
        raise ValueError(f"{class_name} {_NO_SOURCE_DATA}; {advice}")
    several = is_dict_of_arrays(source_data) and LABEL_KEY not in source_data
    domains = {str(name): data for name, data in source_data.items()} if several else {_ONE_DOMAIN: source_data}  # type: ignore[attr-defined]
    if not domains:
        raise ValueError(f"{class_name} {_NO_SOURCE_DATA}, and the dict given has none; {advice}")
    if _TARGET in domains or (several and len(domains) < len(source_data)):  # type: ignore[arg-type]
        raise ValueError(
            f"the source domains {[*source_data]} need names that differ as text, none of them {_TARGET!r}, which is "  # type: ignore[misc]
            "the domain to predict; rename them"
        )
    opened = {name: with_labels(data, None) for name, data in domains.items()}
    for name, data in opened.items():
        if isinstance(data, list):
            raise ValueError(f"{_requires_labels(name)}, and a list has none. {_CUT}")
        refuse_unlabelled(data, _requires_labels(name))
    return opened


def refuse_cut(source_data: object, n_target: int) -> None:
    """Raise ValueError for a `Features` that scikit-learn cut as it cut the target, which now has `n_target` rows."""
    if is_features(source_data) and source_data.is_cut and len(source_data) == n_target:
        raise ValueError(
            f"source_data are {n_target} rows that scikit-learn took from others, as many as the target has, so that "
            f"they were probably cut with it. {_CUT}"
        )


def naming_data(sources: Mapping[str, object], target: object, classes: np.ndarray) -> object:
    """Return the data whose names the classes have: the target where it names them, else the first domain that does.

    Names that differ for one label give a UserWarning.
    """
    given = {_TARGET: target, **sources}
    names = {domain: own for domain, data in given.items() if (own := class_names_in(data)) is not None}
    for label in classes.tolist() if classes.dtype.kind in "iu" else ():
        of_label = {domain: own[label] for domain, own in names.items() if 0 <= label < len(own)}
        if len(set(of_label.values())) > 1:
            warn_user(
                f"the domains have several names for the label {label}: {of_label}. Labels are compared, not names: "
                "unless these are one class, give the same labels to the same classes"
            )
            break
    return given[next(iter(names), _TARGET)]


def check_same_columns(sources: Mapping[str, object], target: object) -> None:
    """Raise ValueError for tables whose columns have other names in a source domain, or another order."""
    expected = column_names(target)
    for name, data in sources.items():
        given = column_names(data)
        if given is not None and expected is not None and not np.array_equal(given, expected):
            raise ValueError(
                f"the columns of source_data {name!r} are {first_few(given.tolist(), 5)}, those of the target "
                f"{first_few(expected.tolist(), 5)}; give both with the same columns in the same order, as by "
                "source[target.columns], or as to_numpy() if they mean the same"
            )


def _requires_labels(name: str) -> str:
    """Return how the sentence begins that asks for the labels of a source domain."""
    return f"source_data {name!r} requires labels, one a row"


def read_source(name: str, data: Any, extract: Callable[[Any], Features]) -> tuple[Features, np.ndarray]:
    """Return the features of a source domain, without gross outliers, and its labels (n_rows,), all judged.

    Raises ValueError for labels that are missing or no classes, and for NaN and infinite features.
    """
    if (given := given_labels(data)) is not None:
        _checked_labels(given, name)  # before the network runs
    features = extract(data)
    labels = _checked_labels(needed_labels(features.labels, _requires_labels(name)), name)
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
    _check_kinds({**labels, _TARGET: of_target.values})
    pooled = np.concatenate([labels[name] for name in sources])
    known = set(pooled.tolist())
    if len(of_target.values) and known.isdisjoint(of_target.values.tolist()):
        raise ValueError(
            f"the classes of the domains do not meet: the source has {_some(pooled)}, the target "
            f"{_some(of_target.values)}; give the same names to the same classes"
        )
    every = of_target.values if of_target.are_complete else np.concatenate([pooled, of_target.values])
    classes = encode_labels(every).classes
    codes, others = label_codes(pooled, classes)
    kept = np.flatnonzero(codes >= 0)
    if others:
        warn_user(
            f"{others.total()} of {len(pooled)} source rows are left out, as their classes are none of the target, "
            f"every row of which has a label: {first_few([repr(label) for label in others], 5)}",
        )
    if len(kept) < 2:
        raise ValueError(
            f"1 of {len(pooled)} source rows has a class of the target, {_some(of_target.values)}: how domains differ "
            "cannot be told from it; give source rows of these classes, or the same names to the same classes"
        )
    target_codes = np.full(len(target), -1)
    target_codes[of_target.rows] = label_codes(of_target.values, classes)[0]
    places = np.repeat(np.arange(len(sources)), [len(features) for features in sources.values()])[kept]
    return Domains(
        source=np.concatenate([features.matrix for features in sources.values()])[kept],
        target=target.matrix,
        source_codes=codes[kept],
        target_codes=target_codes,
        source_domains=places,
        source_weights=equal_weights(places),
        classes=classes,
        names=tuple(sources),
        widths=_widths(target),
    )


def equal_weights(places: np.ndarray) -> np.ndarray:
    """Return weights of rows, 1 on average, that sum to the same in each domain."""
    counts = np.bincount(places)
    return len(places) / ((counts > 0).sum() * counts[places])


def _checked_labels(labels: object, name: str) -> np.ndarray:
    try:
        return label_array(labels)
    except ValueError as error:
        raise ValueError(f"source_data {name!r}: {error}") from error


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


def _check_kinds(labels: Mapping[str, np.ndarray]) -> None:
    kinds = {name: "text" if array.dtype.kind in "UO" else "numbers" for name, array in labels.items() if len(array)}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"the labels of the domains are of different kinds: {kinds}; give one kind, such as text")


def _widths(features: Features) -> dict[str, int]:
    return {name: array.shape[1] for name, array in features.values.items()}


def _some(labels: np.ndarray) -> str:
    return first_few([repr(label) for label in np.unique(labels).tolist()], 5)
