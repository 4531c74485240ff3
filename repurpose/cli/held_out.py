"""`repurpose train` measures itself: a copy is trained without a part of the images and judged by them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from repurpose.cli.output.screen import console, scores, shown

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
    **given: object,
) -> None:
    """Train a copy without a stratified part of the rows that have a label, and print how well it does on them.

    `labels` are one a row, None where it has none; `kind` is what rows are called, and `given` what `repurpose` gets
    beside them. Classes of fewer than four labelled rows are trained on whole, and are not measured.
    """
    from sklearn.base import clone
    from sklearn.model_selection import train_test_split

    counts = Counter(label for label in labels if label is not None)
    if reason := _why_none(counts, part, kind):
        console.print(f"no held-out measurement: {shown(reason)}")
        return
    small = [name for name, count in counts.items() if count < _FEWEST]
    every = np.array(labels, dtype=object)
    rows = np.flatnonzero(np.isin(every, [name for name in counts if name not in small]))
    _, test_rows = train_test_split(rows, test_size=part, stratify=every[rows].tolist(), random_state=seed)
    kept = np.setdiff1d(np.arange(len(every)), test_rows)
    trained = clone(repurposer).repurpose(features[kept], every[kept].tolist(), **given)
    probabilities = trained.predict_probability(features[test_rows])
    measured = scores(np.array(every[test_rows].tolist()), probabilities, trained.classes_)
    console.print(f"held-out {len(test_rows)} {kind}: {measured}")
    if small:
        named = ", ".join(f"{name} ({counts[name]})" for name in small[:10]) + (", ..." if len(small) > 10 else "")
        console.print(f"not measured, as no {kind} could be held out: {shown(named)}", soft_wrap=True)


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
