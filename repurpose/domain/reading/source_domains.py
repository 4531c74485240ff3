"""Source domains are told apart by their names, and agree with the target on the classes to learn.

The rules are the same for methods on features and for those in networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_handler.data.labels import LABEL_KEY
from model_handler.errors import first_few
from model_handler.user_warnings import warn_user
from repurpose.data.column_names import column_names
from repurpose.data.kinds import class_names_in, is_dict_of_arrays, is_features, is_pair
from repurpose.data.labelled_data import needed_labels, refuse_unlabelled, with_labels
from repurpose.data.labels import encode_labels, label_array, label_codes
from repurpose.domain.reading.target_labels import TargetLabels

__all__ = [
    "SourceCodes",
    "agreed_classes",
    "check_kinds",
    "check_same_columns",
    "naming_data",
    "refuse_cut",
    "source_domains",
    "source_labels",
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
class SourceCodes:
    """The `classes` to learn (n_classes,), and of all source rows, domain after domain, the `codes` (n_source,).

    A row whose class is none of them, one of the labels `left_out`, has the code -1.
    """

    classes: np.ndarray
    codes: np.ndarray
    left_out: tuple[object, ...]


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
        if is_pair(data):
            needed_labels(data[1], _requires_labels(name))
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


def source_labels(labels: object, name: str) -> np.ndarray:
    """Return the labels of all rows of the source domain `name`, judged: (n_rows,). Raises ValueError without any."""
    return _checked_labels(needed_labels(labels, _requires_labels(name)), name)


def agreed_classes(labels: Mapping[str, np.ndarray], of_target: TargetLabels) -> SourceCodes:
    """Agree on classes: those of the target where every row of it has a label, else those of either domain.

    `labels` are those of each source domain (n_rows,). Rows of other classes are told of by a UserWarning. Raises
    ValueError for labels of several kinds, for no class in common, and for one row of the source that is left.
    """
    check_kinds({**labels, _TARGET: of_target.values})
    pooled = np.concatenate([*labels.values()])
    known = set(pooled.tolist())
    if len(of_target.values) and known.isdisjoint(of_target.values.tolist()):
        raise ValueError(
            f"the classes of the domains do not meet: the source has {_some(pooled)}, the target "
            f"{_some(of_target.values)}; give the same names to the same classes"
        )
    every = of_target.values if of_target.are_complete else np.concatenate([pooled, of_target.values])
    classes = encode_labels(every).classes
    codes, others = label_codes(pooled, classes)
    if others:
        warn_user(
            f"{others.total()} of {len(pooled)} source rows are left out, as their classes are none of the target, "
            f"every row of which has a label: {first_few([repr(label) for label in others], 5)}",
        )
    if (codes >= 0).sum() < 2:
        raise ValueError(
            f"1 of {len(pooled)} source rows has a class of the target, {_some(of_target.values)}: how domains differ "
            "cannot be told from it; give source rows of these classes, or the same names to the same classes"
        )
    return SourceCodes(classes, codes, tuple(others))


def _requires_labels(name: str) -> str:
    """Return how the sentence begins that asks for the labels of a source domain."""
    return f"source_data {name!r} requires labels, one a row"


def _checked_labels(labels: object, name: str) -> np.ndarray:
    try:
        return label_array(labels)
    except ValueError as error:
        raise ValueError(f"source_data {name!r}: {error}") from error


def check_kinds(labels: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError where the labels of some domains are text and those of others numbers."""
    kinds = {name: "text" if array.dtype.kind in "UO" else "numbers" for name, array in labels.items() if len(array)}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"the labels of the domains are of different kinds: {kinds}; give one kind, such as text")


def _some(labels: np.ndarray) -> str:
    return first_few([repr(label) for label in np.unique(labels).tolist()], 5)
