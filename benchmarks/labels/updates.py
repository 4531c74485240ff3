"""Updates: rows added to and removed from a Gaussian process beside a new solve, and what the held kernel costs.

Whole calls are timed, `gp.add(features)` and `gp.remove(positions)`. `drift` adds rows of the same and of another kind,
and compares the log loss at the held kernel with that after `gp.refresh()`.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.tasks import LAYER, kept_features
from benchmarks.timing import table_lines
from model_handler import Features
from repurpose import GpRepurposer
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["NAME", "N_SEEDS", "aims", "drift_of", "examine", "kinds", "missing", "part_of", "section"]

NAME, N_SEEDS = "updates", 10
N_ROWS, N_CHANGED, N_IN_A_ROW = (500, 2000, 5000), (1, 10, 100), 50
N_RUNS, N_SOLVES = 9, 3
ADDED, REMOVED, FOLDS, IN_A_ROW = "added", "removed", "1 added, with folds", f"{N_IN_A_ROW} calls in a row"
SECONDS, SOLVE, TIMES = "seconds", "seconds of a solve", "times as fast"
PROBABILITY, VARIANCE = "largest difference of a probability", "largest difference of a variance"
SAME, OTHER, CLASSES, WRONG = "the same kind", "scikit-learn's digits", "five new classes", "40 % of labels wrong"
N_BEFORE, SHARES, N_TEST = 300, (0.1, 0.5, 1.0), 500
HELD, REFRESHED, DROP, DUE = "log loss, held", "log loss, refreshed", "fall of the evidence", "refresh due"
_MOST, _FASTER, _WRONG_SHARE = max(N_CHANGED), 20.0, 0.4
_NETWORK = "efficientnet-lite0"
_Found = TypeVar("_Found")
_ABOUT = f"""## Rows added and removed

`GpRepurposer` on features of MNIST by EfficientNet-Lite0, 10 classes; rows are those that are there after a call that
adds, and before one that removes. Seconds are CPU time of one thread for the whole call, the median of {N_RUNS}, and of
the kernel matrix and a solve at the held numbers for as many rows, the median of {N_SOLVES}. At 5,000 rows an update
writes 250 MB of new memory: of about 0.13 s, 0.11 s are computing, and where the system has no large pages left to
give, finding them takes 0.05 to 0.4 s more. "With folds", the heads of the five folds are there
and are updated too, and stand beside six solves. Differences are the largest ones to that solve, over {N_TEST} other
rows and all classes; "{IN_A_ROW}" adds and removes one row by turns.
"""
_DRIFT = f"""### Drift of the kernel

{N_BEFORE} rows of MNIST, to which others are added, as a share of those: of the same kind, of another one, of the five
classes that were not there, or with labels drawn at random for {_WRONG_SHARE:.0%} of them. Log loss on {N_TEST} other
rows of all kinds and classes that were learned (the other kind and MNIST one half each), at the held kernel and after
`refresh`. The fall of the evidence is `evidence_drop_`, nats by row and class; above 0.02 a refresh is said to be due.
"""


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") else "mlxtend is not installed"


def part_of(n_rows: int) -> str:
    """Name the cells of a number of rows."""
    return f"{NAME}, {n_rows:,} rows"


def drift_of(what: str) -> str:
    """Name the cells of a kind of new rows."""
    return f"{NAME}, drift, {what}"


def kinds() -> list[tuple[str, str]]:
    """List what is measured: calls at each number of rows, and shares of each kind of new rows."""
    calls = [f"{k} {what}" for what in (ADDED, REMOVED) for k in N_CHANGED] + [FOLDS, IN_A_ROW]
    timed = [(part_of(n), call) for n in N_ROWS for call in calls]
    return timed + [(drift_of(what), f"{share:.0%}") for what in _KINDS_OF_ROWS for share in SHARES]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Change rows, and measure time and differences; or what the held kernel is worth."""
    by_name = {part_of(n): n for n in N_ROWS}
    if cell.part in by_name:
        return _timed(by_name[cell.part], cell.kind, cell.seed, folder)
    what = next(what for what in _KINDS_OF_ROWS if drift_of(what) == cell.part)
    return _drift(what, next(share for share in SHARES if f"{share:.0%}" == cell.kind), cell.seed, folder)


@lru_cache(maxsize=1)
def _trained(n_rows: int, seed: int, folder: Path) -> tuple[GpRepurposer, Features, Features]:
    """Train on all of the rows but the last hundred, which come too, and others to ask about."""
    features = kept_features("mnist", folder)
    rows = np.random.default_rng(seed).permutation(len(features))
    few = GpRepurposer(_NETWORK, [LAYER], n_inducing=None, random_state=seed, verbose=False)
    few.repurpose(features[rows[: n_rows - _MOST]])
    return few, features[rows[n_rows - _MOST : n_rows]], features[rows[:N_TEST]]


@cache
def _solve_seconds(n_rows: int, seed: int, folder: Path) -> float:
    few, new, _ = _trained(n_rows, seed, folder)
    whole = copy.copy(few).add(new)
    return _seconds(lambda: _solved(whole), N_SOLVES)[0]


def _solved(repurposer: GpRepurposer) -> GpModel:
    """Compute the kernel matrix, and solve at held numbers."""
    model, codes = repurposer.target_model_, repurposer.training_codes_
    sizes = np.bincount(codes, minlength=len(repurposer.classes_)).tolist()
    kernel = model.kernel.between(model.points, model.points)  # type: ignore[union-attr]
    posterior = condition(kernel, sizes, DirichletTargets.of(repurposer.alpha_eps_))
    return replace(model, solve=posterior.solve, weights=posterior.weights, mean=posterior.mean)


def _timed(n_rows: int, call: str, seed: int, folder: Path) -> Mapping[str, float]:
    few, new, test = _trained(n_rows, seed, folder)
    if call == IN_A_ROW:
        changed = copy.copy(few).add(new[1:])
        for number in range(N_IN_A_ROW):
            changed.remove(len(changed.training_codes_) - 1) if number % 2 else changed.add(new[:1])
        return _differences(changed, test)
    k = int(call.split()[0])
    known = new[k:] if ADDED in call else new
    before = copy.copy(few).add(known) if len(known) else copy.copy(few)
    if call == FOLDS:
        before.predict_set(test)
    n_solves = 6 * 0.8**3 if call == FOLDS else 1  # heads of folds have four fifths of the rows
    gone = np.random.default_rng(seed).permutation(n_rows)[:k]
    change = (lambda it: it.add(new[:k])) if ADDED in call else (lambda it: it.remove(gone))
    seconds, changed = _seconds(lambda: change(copy.copy(before)), N_RUNS)
    solve = _solve_seconds(n_rows, seed, folder) * n_solves
    return {SECONDS: seconds, SOLVE: solve, TIMES: solve / seconds, **_differences(changed, test)}


def _seconds(call: Callable[[], _Found], n_runs: int) -> tuple[float, _Found]:
    seconds = []
    for _ in range(n_runs):
        start = time.process_time()
        found = call()
        seconds.append(time.process_time() - start)
    return median(seconds), found


def _differences(changed: GpRepurposer, test: Features) -> dict[str, float]:
    if changed.update_ != "exact":
        raise ValueError(f"the update was {changed.update_!r}")
    ours, solved = changed.target_model_, _solved(changed)
    probability = np.abs(ours.probabilities(test.matrix) - solved.probabilities(test.matrix)).max()
    variance = torch.abs(ours.latent(test.matrix)[1] - solved.latent(test.matrix)[1]).max()
    return {PROBABILITY: float(probability), VARIANCE: float(variance)}


def _drift(what: str, share: float, seed: int, folder: Path) -> Mapping[str, float]:
    before, new, test = _KINDS_OF_ROWS[what](np.random.default_rng(seed), round(share * N_BEFORE), folder)
    repurposer = GpRepurposer(_NETWORK, [LAYER], random_state=seed, verbose=False).repurpose(before)
    held = _log_loss(repurposer.add(new), test)
    found = {HELD: held, DROP: repurposer.evidence_drop_, DUE: float(repurposer.refresh_due_)}
    return found | {REFRESHED: _log_loss(repurposer.refresh(), test)}


def _log_loss(repurposer: GpRepurposer, test: Features) -> float:
    codes = np.searchsorted(repurposer.classes_, test.labels)
    return float(-np.log(repurposer.predict_probability(test)[np.arange(len(codes)), codes]).mean())


def _same(rng: np.random.Generator, n_new: int, folder: Path) -> tuple[Features, Features, Features]:
    features = kept_features("mnist", folder)
    parts = np.split(rng.permutation(len(features)), np.cumsum([N_BEFORE, n_new, N_TEST]))
    return features[parts[0]], features[parts[1]], features[parts[2]]


def _wrong(rng: np.random.Generator, n_new: int, folder: Path) -> tuple[Features, Features, Features]:
    before, new, test = _same(rng, n_new, folder)
    labels = np.asarray(new.labels).copy()
    n_wrong = round(_WRONG_SHARE * n_new)
    labels[:n_wrong] = rng.integers(0, 10, size=n_wrong)
    return before, Features(new.values, labels), test


def _other(rng: np.random.Generator, n_new: int, folder: Path) -> tuple[Features, Features, Features]:
    before, _, test = _same(rng, n_new, folder)
    others = kept_features("digits", folder)
    new, more = np.split(rng.permutation(len(others))[: n_new + N_TEST // 2], [n_new])
    return before, others[new], _together(test[: N_TEST // 2], others[more])


def _classes(rng: np.random.Generator, n_new: int, folder: Path) -> tuple[Features, Features, Features]:
    features = kept_features("mnist", folder)
    rows = rng.permutation(len(features))
    is_old = np.asarray(features.labels)[rows] < 5
    old, new = rows[is_old], rows[~is_old]
    test = np.concatenate([old[N_BEFORE:][: N_TEST // 2], new[n_new:][: N_TEST // 2]])
    return features[old[:N_BEFORE]], features[new[:n_new]], features[test]


def _together(one: Features, other: Features) -> Features:
    values = {name: np.concatenate([array, other.values[name]]) for name, array in one.values.items()}
    return Features(values, np.concatenate([one.labels, other.labels]))


_KINDS_OF_ROWS = {SAME: _same, OTHER: _other, CLASSES: _classes, WRONG: _wrong}


def section(findings: Findings) -> Iterator[str]:
    """Yield the lines of the report."""
    rows = []
    for part in map(part_of, N_ROWS):
        for kind in findings.kinds(part):
            row = [part.partition(", ")[2], kind, str(findings.n_draws(part, kind, PROBABILITY))]
            for measure, form in ((SECONDS, ".3f"), (SOLVE, ".3f"), (TIMES, ".1f")):
                found = findings.estimate(part, kind, measure)
                row.append(f"{found.mean:{form}}" if found else "")
            largest = (findings.estimate(part, kind, measure) for measure in (PROBABILITY, VARIANCE))
            rows.append([*row, *(f"{found.largest:.0e}" if found else "" for found in largest)])
    if rows:
        header = ["", "call", "draws", SECONDS, SOLVE, TIMES, PROBABILITY, VARIANCE]
        yield from ["", *_ABOUT.splitlines(), "", *table_lines(header, rows)]
    rows = []
    for what in _KINDS_OF_ROWS:
        for kind in findings.kinds(part := drift_of(what)):
            lost = [
                a - b for a, b in zip(*(findings.values(part, kind, which).values() for which in (HELD, REFRESHED)))
            ]
            row = [what, kind, str(findings.n_draws(part, kind, HELD))]
            row += [str(findings.estimate(part, kind, measure)) for measure in (HELD, REFRESHED)]
            row.append(f"{np.mean(lost):+.3f} ({np.std(lost, ddof=1) / len(lost) ** 0.5:.3f})" if len(lost) > 1 else "")
            row += [str(findings.estimate(part, kind, DROP)), f"{sum(findings.values(part, kind, DUE).values()):.0f}"]
            rows.append(row)
    if rows:
        header = ["new rows", "share", "draws", HELD, REFRESHED, "held less refreshed", DROP, f"{DUE}, draws"]
        yield from ["", *_DRIFT.splitlines(), "", *table_lines(header, rows)]


def aims(findings: Findings) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    for n in N_ROWS:
        kinds_of = findings.kinds(part_of(n))
        largest = [found for kind in kinds_of if (found := findings.estimate(part_of(n), kind, PROBABILITY))]
        worst = max((found.largest for found in largest), default=None)
        aim = f"updates, {n:,} rows: no probability differs by more than 1e-6 from a solve"
        yield (
            [aim, "", "not measured"]
            if worst is None
            else [aim, f"{worst:.0e}", "met" if worst <= 1e-6 else "**missed**"]
        )
    for what in (ADDED, REMOVED):
        found = findings.estimate(part_of(max(N_ROWS)), f"1 {what}", TIMES)
        yield judged(f"updates, {max(N_ROWS):,} rows: 1 {what}, 20 times as fast as a solve", found, least=_FASTER)
