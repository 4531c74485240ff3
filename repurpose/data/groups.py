"""Rows of one group, as of a patient, a camera or a near-duplicate, are held out together or not at all.

Rows that nearly repeat each other tell nothing new about one another: a row that is held out while its like is kept is
predicted too well, and all that is chosen or promised by such rows fails on groups that are new. So every place that
holds rows out takes the codes made here: `folds`, `gp.calibration` and the splits of validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from model_handler.data.labels import is_missing
from model_handler.errors import first_few, with_fix
from model_handler.user_warnings import warn_user
from repurpose.data.kinds import is_table
from repurpose.data.sample_weights import refuse_shuffling

__all__ = [
    "Grouping",
    "can_be_held_out",
    "check_n_groups",
    "given_groups",
    "group_codes",
    "groups_of_present_rows",
    "groups_option",
    "joined_to_singles",
    "judged_groups",
    "warn_of_whole_classes",
    "why_none_held_out",
]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups beside classes. Groups are numbered in the order of their first rows, whatever their codes were.

    Attributes
    ----------
    of_row : int ndarray of shape (n_rows,)
        The group of each row.
    counts : int ndarray of shape (n_groups, n_classes)
        How many rows of each class each group holds; classes in the order of their first rows.
    """

    of_row: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, groups: np.ndarray) -> "Grouping":
        """Count the rows of classes `codes` (n_rows,) in each of the `groups` (n_rows,)."""
        of_row, classes = _by_first_row(groups), _by_first_row(codes)
        counts = np.zeros((of_row.max() + 1, classes.max() + 1), dtype=np.int64)
        np.add.at(counts, (of_row, classes), 1)
        return cls(of_row, counts)

    @property
    def sizes(self) -> np.ndarray:
        """How many rows each group has: (n_groups,)."""
        return self.counts.sum(axis=1)

    @property
    def hold_a_class(self) -> np.ndarray:
        """Which groups have all rows of a class, and so cannot be held out: bool (n_groups,)."""
        return (self.counts == self.counts.sum(axis=0)).any(axis=1)

    def in_turn(self, random_state: np.random.RandomState) -> np.ndarray:
        """Return the groups that can be held out, shuffled and then the largest first: (n_such_groups,).

        So groups of like size come together, and small ones last, which even out what the large ones left.
        """
        shuffled = random_state.permutation(np.flatnonzero(~self.hold_a_class))
        return shuffled[np.argsort(-self.sizes[shuffled], kind="stable")]


def group_codes(
    groups: ArrayLike | Sequence[object] | torch.Tensor, n_rows: int | None = None, at_least: int = 2
) -> np.ndarray:
    """Return the code of each row's group, 0 for that of the first row: int64 (n_rows,), from labels of any kind.

    The number of rows is judged where it is known. Raises ValueError for another number of groups, for more than one
    axis, for missing groups (naming the rows) and for fewer than `at_least` groups; TypeError for what is no label.
    """
    labels = _as_labels(groups)
    if n_rows is not None:
        check_n_groups(labels, n_rows)
    if missing := [str(row) for row, label in enumerate(labels) if is_missing(label)]:
        raise ValueError(
            f"{len(missing)} of {len(labels)} rows have no group (NaN or None): rows {first_few(missing, 5)}; give "
            "each of them a group, its own where it is like no other row, or leave these rows out"
        )
    numbers: dict[object, int] = {}
    try:
        codes = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)
    except TypeError as error:
        raise TypeError(f"groups must be numbers, text or other labels that can be compared; {error}") from error
    if len(numbers) < at_least:
        raise ValueError(
            f"all {len(labels)} rows are of the group {next(iter(numbers), None)!r}, so that nothing could be held "
            "out; give groups that differ, or leave groups out where rows are independent"
        )
    return codes


def check_n_groups(groups: Sequence | np.ndarray, n_rows: int) -> None:
    """Raise ValueError where there are not as many groups as rows."""
    if len(groups) != n_rows:
        raise ValueError(f"the data have {n_rows} rows and groups has {len(groups)}; every row needs one group")


def given_groups(data: object) -> Any:
    """Return the groups that data bring along, as a `TableData` may; None without any."""
    return data.groups if is_table(data) else None


def judged_groups(data: object, groups: ArrayLike | None, at_least: int = 2) -> np.ndarray | None:
    """Return the codes of `groups`, or of those that the data bring along; None without any.

    There are to be `at_least` so many of them. Raises as `group_codes`, and ValueError beside a loader that shuffles,
    whose rows cannot be matched with groups.
    """
    given = given_groups(data) if groups is None else groups
    if given is None:
        return None
    refuse_shuffling(data, "groups")
    return group_codes(given, at_least=at_least)


def groups_of_present_rows(groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the groups of the rows whose weights are above 0, as `present_rows` leaves them. Raises ValueError as it.

    `groups` and `weights` are of all rows.
    """
    check_n_groups(groups, len(weights))
    return groups[weights > 0]


def groups_option(groups: np.ndarray | None, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the option of `repurpose` that keeps together some `rows`, by number, of `groups` (n_samples,).

    None where these are all of one group, which is what a fold may leave of two, and which tells nothing apart.
    """
    if groups is None or len(np.unique(groups[rows])) < 2:
        return {}
    return {"groups": groups[rows]}


def joined_to_singles(n_singles: int, groups: np.ndarray) -> np.ndarray:
    """Return the groups of `n_singles` rows that are each by themselves, and behind them `groups` (n_rows,)."""
    return np.concatenate([groups.max(initial=-1) + 1 + np.arange(n_singles), groups])


def can_be_held_out(codes: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Tell which rows of classes `codes` (n_rows,) can be held out, alone or with their group: bool (n_rows,)."""
    if groups is None:
        return np.bincount(codes)[codes] > 1
    grouping = Grouping.of(codes, groups)
    return ~grouping.hold_a_class[grouping.of_row]


def why_none_held_out(groups: np.ndarray | None, example: str = "example") -> str:
    """Say what is the matter where no row can be held out; `example` is what rows are called."""
    return f"no class has two {example}s" if groups is None else f"every group has all {example}s of a class"


def warn_of_whole_classes(codes: np.ndarray, groups: np.ndarray, names: np.ndarray) -> None:
    """Give a UserWarning where a group has all rows of a class: none of its rows can ever be held out.

    `codes` (n_rows,) are indices into the `names` of the classes. A class of one row needs no groups for that, and has
    no warning here.
    """
    held = [
        code
        for code in np.unique(codes).tolist()
        if (codes == code).sum() > 1 and len(np.unique(groups[codes == code])) == 1
    ]
    if not held:
        return
    n_rows = int(np.isin(groups, groups[np.isin(codes, held)]).sum())
    shown = first_few([repr(name) for name in names[held].tolist()], 5)
    said = (
        f"all rows of {shown} are of one group, which cannot be held out without leaving none of the class: "
        f"the {n_rows} rows of such groups are learned from, but nothing is chosen or promised by them"
    )
    advice = "give rows of the class from another group"
    warn_user(with_fix(UserWarning, said, python=advice, shell=advice))


def _by_first_row(codes: np.ndarray) -> np.ndarray:
    """Number codes by their first rows: 0 for that of the first row, and so on."""
    _, first_rows, numbers = np.unique(codes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_rows))[numbers]


def _as_labels(groups: ArrayLike | Sequence[object] | torch.Tensor) -> list:
    if isinstance(groups, torch.Tensor):
        groups = groups.detach().cpu().numpy()
    if isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise TypeError(f"groups must hold one label for each row, got {groups!r}")
    # An array of its own would turn numbers and None among text into text.
    array = np.array([*groups, None], dtype=object)[:-1] if isinstance(groups, (list, tuple)) else np.asarray(groups)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"groups must hold one label for each row, on one axis; got an array of shape {array.shape}")
    return array.tolist()
