"""Errors: labels of MNIST flipped at random or to the class that is confused most, and found again.

Each kind ranks the same rows of the same features by how badly their labels fit. The log loss is that of one and the
same head afterwards, on other rows: after the first rows were looked at, as many as labels were flipped, and given
their true labels; and after every suggestion was taken unseen.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.quality.findings import Estimate
from benchmarks.tasks import LAYER, few_per_class, kept_features
from benchmarks.timing import table_lines
from model_handler import Features
from repurpose import GpRepurposer

__all__ = ["NAME", "N_SEEDS", "Draw", "aims", "draw", "examine", "kinds", "missing", "part_of", "section"]

NAME, N_SEEDS = "errors", 20
N_PER_CLASS, SHARES, N_TEST = (10, 20, 50), (0.05, 0.1, 0.2), 500
RANDOM, CONFUSED = "at random", "to the most confused class"
OURS, APART, CLEANLAB = "closed form", "closed form, kernel without the fold", "cleanlab"
NOTHING, EVERYTHING = "nothing repaired", "no label flipped"
PRECISION, SUGGESTED, SECONDS = "average precision", "right suggestions", "seconds"
REVIEWED, TAKEN = "log loss after a look", "log loss, all suggestions taken"
_FEW, _GAIN, _TIMES = (10, 20), 0.03, 10.0
_NETWORK = "efficientnet-lite0"
_ABOUT = f"""## Wrong labels

MNIST, features of EfficientNet-Lite0; so many rows of each class, of which a share has another label, drawn at random
among the others, or that of the class with which its own one is confused most (by 5 nearest neighbours on 2,000 rows).
"{OURS}" is `GpRepurposer(...).repurpose(data).find_label_errors()`, "{APART}" the same where kernel, centre and
temperature are learned without the fold that is judged; "{CLEANLAB}" is its `get_label_quality_scores` of 5-fold
logistic regression (scikit-learn's defaults, but for 1,000 iterations) on the same features. Average precision is that
of the ranking of all rows; right suggestions are the share of flipped rows whose true label is suggested; seconds are
CPU time of one thread, training included and features not.
"""
_REPAIR = f"""### What a repair is worth

Log loss of `GpRepurposer` on {N_TEST} other rows: with the flipped labels; after the first rows of the ranking, as many
as there are flipped ones, were given their true labels; after every suggestion was taken unseen, which are rows where
another label fits better, and for cleanlab those of `find_label_issues`; and without any flipped label.
"""


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows to judge, with their `given` and `true` labels (n_rows,), and others to test on."""

    rows: Features
    given: np.ndarray
    true: np.ndarray
    test: Features

    @property
    def is_flipped(self) -> np.ndarray:
        """Which labels are wrong: bool (n_rows,)."""
        return self.given != self.true


@dataclass(frozen=True, eq=False)
class Judged:
    """Of each row the score of its label (the lower the worse), the label that fits best, and whether to take that."""

    scores: np.ndarray
    suggested: np.ndarray
    is_wrong: np.ndarray


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return next((f"{name} is not installed" for name in ("mlxtend", "cleanlab") if not find_spec(name)), "")


def part_of(n_per_class: int, share: float, how: str) -> str:
    """Name the cells of a setting."""
    return f"{NAME}, {n_per_class} a class, {share:.0%} {how}"


def kinds() -> list[tuple[str, str]]:
    """List what is compared, in each setting."""
    return [(part, kind) for part in _settings() for kind in (NOTHING, EVERYTHING, OURS, APART, CLEANLAB)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Judge the labels of a draw, and train again on the repaired ones."""
    drawn = draw(*_settings()[cell.part], cell.seed, folder)
    if cell.kind in (NOTHING, EVERYTHING):
        return {REVIEWED: _log_loss(drawn, drawn.given if cell.kind == NOTHING else drawn.true, cell.seed)}
    start = time.process_time()
    found = _JUDGES[cell.kind](drawn, cell.seed)
    seconds = time.process_time() - start
    reviewed, taken = drawn.given.copy(), np.where(found.is_wrong, found.suggested, drawn.given)
    first = np.argsort(found.scores, kind="stable")[: drawn.is_flipped.sum()]
    reviewed[first] = drawn.true[first]
    return {
        PRECISION: float(average_precision_score(drawn.is_flipped, -found.scores)),
        SUGGESTED: float((found.suggested == drawn.true)[drawn.is_flipped].mean()),
        SECONDS: seconds,
        REVIEWED: _log_loss(drawn, reviewed, cell.seed),
        TAKEN: _log_loss(drawn, taken, cell.seed),
    }


def draw(n_per_class: int, share: float, how: str, seed: int, folder: Path) -> Draw:
    """Draw so many rows of each class, and flip a share of all labels."""
    features = kept_features("mnist", folder)
    labels = np.asarray(features.labels)
    train, others = few_per_class(labels, n_per_class, seed)
    rng = np.random.default_rng(seed)
    true, given = labels[train], labels[train].copy()
    flipped = rng.permutation(len(train))[: round(share * len(train))]
    if how == RANDOM:
        given[flipped] = (true[flipped] + rng.integers(1, 10, size=len(flipped))) % 10
    else:
        given[flipped] = _most_confused(folder)[true[flipped]]
    test = rng.permutation(others)[:N_TEST]
    return Draw(Features(features[train].values), given, true, features[test])


@cache
def _most_confused(folder: Path) -> np.ndarray:
    """Find the class with which each one is confused most: (10,)."""
    features = kept_features("mnist", folder)
    some = np.random.default_rng(0).permutation(len(features))[:2000]
    X, y = features.matrix[some], np.asarray(features.labels)[some]
    confusions = confusion_matrix(y, cross_val_predict(KNeighborsClassifier(5), X, y, cv=5))
    np.fill_diagonal(confusions, -1)
    return confusions.argmax(axis=1)


def _gp(seed: int) -> GpRepurposer:
    return GpRepurposer(_NETWORK, [LAYER], random_state=seed, verbose=False)


def _labelled(drawn: Draw, labels: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Features:
    return Features(drawn.rows[rows].values, labels[rows])


def _log_loss(drawn: Draw, labels: np.ndarray, seed: int) -> float:
    head = _gp(seed).repurpose(_labelled(drawn, labels))
    codes = np.searchsorted(head.classes_, drawn.test.labels)
    return float(-np.log(head.predict_probability(drawn.test)[np.arange(N_TEST), codes]).mean())


def _in_closed_form(drawn: Draw, seed: int) -> Judged:
    table = _gp(seed).repurpose(_labelled(drawn, drawn.given)).find_label_errors()
    return _of_table(table, np.arange(len(drawn.given)))


def _with_kernels_apart(drawn: Draw, seed: int) -> Judged:
    """Judge each fold at the kernel of the other ones: they are learned, and the fold is added at the held kernel."""
    n = len(drawn.given)
    scores, suggested = np.empty(n), np.empty(n, dtype=drawn.given.dtype)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for others, fold in folds.split(np.zeros(n), drawn.given):
        head = _gp(seed).repurpose(_labelled(drawn, drawn.given, others))
        head.add(_labelled(drawn, drawn.given, fold))
        found = _of_table(head.find_label_errors(), np.arange(n))
        scores[fold], suggested[fold] = found.scores[len(others) :], found.suggested[len(others) :]
    return Judged(scores, suggested, suggested != drawn.given)


def _of_table(table: object, rows: np.ndarray) -> Judged:
    """Bring what `find_label_errors` says into the order of the rows."""
    place = np.argsort(table["row"])  # type: ignore[index]
    columns = (np.asarray(table[name])[place] for name in ("probability", "suggested", "given"))  # type: ignore[index]
    scores, suggested, given = columns
    if len(scores) != len(rows):
        raise ValueError(f"{len(rows) - len(scores)} of {len(rows)} rows were not judged: draw more of each class")
    return Judged(scores, suggested, suggested != given)


def _by_cleanlab(drawn: Draw, seed: int) -> Judged:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=1000)
    classes, codes = np.unique(drawn.given, return_inverse=True)
    probabilities = cross_val_predict(model, drawn.rows.matrix, codes, cv=folds, method="predict_proba")
    scores = get_label_quality_scores(codes, probabilities)
    return Judged(scores, classes[probabilities.argmax(axis=1)], find_label_issues(codes, probabilities, n_jobs=1))


_JUDGES: Mapping[str, Callable[[Draw, int], Judged]] = {
    OURS: _in_closed_form,
    APART: _with_kernels_apart,
    CLEANLAB: _by_cleanlab,
}


def _settings() -> dict[str, tuple[int, float, str]]:
    return {
        part_of(n, share, how): (n, share, how) for n in N_PER_CLASS for share in SHARES for how in (RANDOM, CONFUSED)
    }


def section(findings: Findings) -> Iterator[str]:
    """Yield the lines of the report."""
    parts = [part for part in _settings() if findings.kinds(part)]
    found, repaired = [], []
    for part in parts:
        setting, cells = part.partition(", ")[2], (OURS, APART, CLEANLAB)
        row = [setting, str(findings.n_draws(part, OURS, PRECISION))]
        row += [_said(findings.estimate(part, kind, PRECISION)) for kind in cells]
        ahead = findings.difference(part, OURS, CLEANLAB, PRECISION)
        row += [ahead.signed if ahead else "", findings.won(part, OURS, CLEANLAB, PRECISION)]
        row += [_said(findings.estimate(part, kind, SUGGESTED)) for kind in (OURS, CLEANLAB)]
        seconds = [findings.estimate(part, kind, SECONDS) for kind in cells]
        found.append(row + [f"{each.mean:.2f}" if each else "" for each in seconds])
        losses = [(NOTHING, REVIEWED), (OURS, REVIEWED), (CLEANLAB, REVIEWED), (OURS, TAKEN), (CLEANLAB, TAKEN)]
        losses.append((EVERYTHING, REVIEWED))
        repaired.append([setting, *(_said(findings.estimate(part, kind, measure)) for kind, measure in losses)])
    header = ["rows and flipped labels", "draws", f"{PRECISION}: {OURS}", "kernel without the fold", CLEANLAB]
    header += [f"{OURS} less {CLEANLAB}", "won", f"{SUGGESTED}: {OURS}", CLEANLAB]
    header += [f"{SECONDS}: {OURS}", "kernel without the fold", CLEANLAB]
    yield from ["", *_ABOUT.splitlines(), "", *table_lines(header, found)]
    header = [
        "rows and flipped labels",
        NOTHING,
        f"looked at: {OURS}",
        CLEANLAB,
        f"taken: {OURS}",
        CLEANLAB,
        EVERYTHING,
    ]
    yield from ["", *_REPAIR.splitlines(), "", *table_lines(header, repaired)]


def aims(findings: Findings) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    for n in _FEW:
        for how in (RANDOM, CONFUSED):
            parts = [part_of(n, share, how) for share in SHARES]
            ahead = _over(parts, findings, PRECISION, lambda ours, other: ours - other)
            aim = f"wrong labels, {n} a class, {how}: average precision .03 above cleanlab's"
            yield judged(aim, ahead, least=_GAIN, signed=True)
        parts = [part for part, (size, *_) in _settings().items() if size == n]
        faster = _over(parts, findings, SECONDS, lambda ours, other: other / ours)
        yield judged(f"wrong labels, {n} a class: ten times as fast as cleanlab", faster, least=_TIMES)


def _over(
    parts: Sequence[str], findings: Findings, measure: str, compare: Callable[[float, float], float]
) -> Estimate | None:
    """Compare ours with cleanlab's in each draw, on average over some settings, where all of them were measured."""
    ours, others = ([findings.values(part, kind, measure) for part in parts] for kind in (OURS, CLEANLAB))
    seeds = set.intersection(*(set(values) for values in (*ours, *others)))
    return Estimate.of(
        [
            float(np.mean([compare(one[seed], other[seed]) for one, other in zip(ours, others)]))
            for seed in sorted(seeds)
        ]
    )


def _said(estimate: Estimate | None) -> str:
    return str(estimate) if estimate else ""
