"""`repurpose train` measures itself: a copy is trained without a part of the images and judged by them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from repurpose.cli.output.screen import console, scores, shown
from repurpose.data.folds import deal_share

if TYPE_CHECKING:
    from repurpose import Features, MetaModelRepurposer

__all__ = ["report_held_out"]

_FEWEST = 4  # images of a class, for some of them to be held out


def report_held_out(
    repurposer: "MetaModelRepurposer",
    features: "Features",
    labels: Sequence[str | None],
    part: float,
    seed: int,
    *,
    kind: str = "images",
    groups: np.ndarray | None = None,
    **given: object,
) -> None:
    """Train a copy without a stratified part of the rows that have a label, and print how well it does on them.

    `labels` are one a row, None where it has none; `kind` is what rows are called, and `given` what `repurpose` gets
    beside them. Classes of fewer than four labelled rows are trained on whole, and are not measured. Of rows in
    `groups`, codes (n_rows,), whole groups are held out.
    """
    from sklearn.base import clone

    counts = Counter(label for label in labels if label is not None)
    every = np.array(labels, dtype=object)
    reason = _why_none(counts, part, kind)
    if not reason and groups is None:
        test_rows = _stratified_part(every, [name for name in counts if counts[name] >= _FEWEST], part, seed)
        kept = np.setdiff1d(np.arange(len(every)), test_rows)
    elif not reason and groups is not None:
        test_rows, kept = _part_of_groups(every, part, seed, groups)
        reason = _why_no_groups(test_rows, groups[kept], kind)
    if reason:
        console.print(f"no held-out measurement: {shown(reason)}")
        return
    of_kept = {} if groups is None else {"groups": groups[kept]}
    trained = clone(repurposer).repurpose(features[kept], every[kept].tolist(), **of_kept, **given)
    probabilities = trained.predict_probability(features[test_rows])
    measured = scores(np.array(every[test_rows].tolist()), probabilities, trained.classes_)
    of_groups = "" if groups is None else f" of {len(np.unique(groups[test_rows]))} groups"
    console.print(f"held-out {len(test_rows)} {kind}{of_groups}: {measured}")
    if small := [name for name in counts if name not in set(every[test_rows])]:
        named = ", ".join(f"{name} ({counts[name]})" for name in small[:10]) + (", ..." if len(small) > 10 else "")
        console.print(f"not measured, as no {kind} could be held out: {shown(named)}", soft_wrap=True)


def _stratified_part(labels: np.ndarray, classes: Sequence[str], part: float, seed: int) -> np.ndarray:
    """Draw rows of these classes, a part of each: (n_held_out,)."""
    from sklearn.model_selection import train_test_split

    rows = np.flatnonzero(np.isin(labels, classes))
    return train_test_split(rows, test_size=part, stratify=labels[rows].tolist(), random_state=seed)[1]


def _part_of_groups(labels: np.ndarray, part: float, seed: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw whole groups, and return their labelled rows and all rows of the other groups."""
    labelled = np.flatnonzero(labels != None)  # noqa: E711 (row by row)
    codes = np.unique(labels[labelled].tolist(), return_inverse=True)[1]
    test_rows = labelled[deal_share(codes, part, np.random.RandomState(seed), groups[labelled])]
    return test_rows, np.flatnonzero(~np.isin(groups, groups[test_rows]))


def _why_no_groups(test_rows: np.ndarray, groups_left: np.ndarray, kind: str) -> str | None:
    if not len(test_rows):
        return f"every group is too large to be held out, or has all {kind} of a class"
    return None if len(np.unique(groups_left)) > 1 else "it would leave a single group to learn from"


def _why_none(counts: Counter[str], part: float, kind: str = "images") -> str | None:
    """Say what prevents holding out a part with two classes or more on both sides, if anything."""
    if part == 0:
        return "--holdout 0"
    if not counts:
        return "no image has a label; in Python, score_without_labels compares methods by a target without any"
    if len(counts) == 1:
        return f"only one class, {next(iter(counts))!r}, has labels"
    measured = [count for count in counts.values() if count >= _FEWEST]
    n_rows = sum(measured if len(measured) > 1 else counts.values())
    n_held_out = math.ceil(n_rows * part)
    if len(measured) > 1 and min(n_held_out, n_rows - n_held_out) >= len(measured):
        return None
    name, fewest = counts.most_common()[-1]
    return f"too few {kind}, {fewest} in class {name!r} and {n_held_out} to hold out"
