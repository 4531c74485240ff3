"""Suggestions: labels needed to reach what labels of random rows reach, and what a query takes.

From the same first 10 rows of a pool, each way of `choosing` adds 10 rows at a time up to 100; after each step one and
the same head, a `GpRepurposer` that learns its kernel anew, is judged on rows that are in no pool.
"""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import entr
from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.labels.choosing import AUTO, RANDOM, TYPICALITY, WAYS, Choose, by_library
from benchmarks.parts.verdicts import judged
from benchmarks.quality.findings import Estimate
from benchmarks.tasks import LAYER, kept_features
from benchmarks.timing import table_lines
from model_handler import Features
from repurpose import GpRepurposer, suggest_first
from repurpose.labelling.suggesting.expected_drop import expected_drop
from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME = "suggestions"
N_SEEDS = 20
_POOLS = {"digits": 1000, "mnist": 4000}
_N_TEST = 1000  # at most
_STEP, _MOST = 10, 100
_COUNTS = range(_STEP, _MOST + 1, _STEP)
_OWN_START = {
    "typicality, then auto": ("typicality", "auto"),
    "medoids, then auto": ("medoids", "auto"),
    "typicality throughout": ("typicality", "typicality"),
}
_QUERY = f"{NAME}, query"
_N_QUERY, _N_LABELLED, _N_ASKED = 5000, 500, 20
_OF_LIBRARY = ("doubt", "epig", "variance", "margin", "typicality")
_FLOOR = 1e-3  # of the probability of a label, where its class was never seen
_N_TARGETS = 200
_ROUNDING = 1e-9  # of a mean over draws
_CORE = "seconds of the core"  # where others have it in between
_MEASURES = {"accuracy": 1, "log loss": -1}  # and whether more is better
_MOST_LABELS = 70  # 30 % fewer than random rows
_TOLD = (20, 50, 100)
_COLUMNS = [
    "way",
    "labels needed (accuracy)",
    "labels needed (log loss)",
    *(f"accuracy, {n}" for n in _TOLD),
    *(f"log loss, {n}" for n in _TOLD),
    "seconds",
]
_HEAD = f"""## Suggestions

Features of EfficientNet-Lite0. From the same 10 random rows, each way adds {_STEP} rows at a time, up to {_MOST}, and
after each step one and the same `GpRepurposer` is trained on them and judged on up to {_N_TEST:,} rows that are in no
pool. "Labels needed" are those with which the mean curve reaches what random rows reach at {_MOST}, with the standard
error of the jackknife over draws; {_MOST + _STEP} is: not reached. A class that was never seen has the probability
{_FLOOR:g} in the log loss. The last three ways begin with 10 rows of their own. BADGE takes the gradients of the
Gaussian process's probabilities and rows; "clusters weighted by doubt" is CLUE. What `method="auto"` is was chosen on
other draws (seeds from 1,000 on) of the same two data sets. Seconds are those of a query; other work shared the cores.
"""
_DROPS = f"""### The expected drop beside the drop that came

Of {_STEP} labels more: what `suggest_labels` expects of them, and by how much the entropy of the probabilities and the
log loss of rows in no pool then fell.
"""


def missing() -> str:
    """Say what is not installed, as part of a sentence."""
    try:
        import mlxtend  # noqa: F401
    except ImportError:
        return "mlxtend is not installed"
    return ""


def kinds() -> list[tuple[str, str]]:
    """List every part with its kinds: cells of a draw."""
    shared = [(_part(task), way) for task in _POOLS for way in WAYS]
    own = [(_part(task), way) for task in _POOLS for way in _OWN_START]
    return shared + own + [(_QUERY, method) for method in _OF_LIBRARY]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Measure one way on one draw."""
    if cell.part == _QUERY:
        return _query(cell, folder)
    task = cell.part.removeprefix(f"{NAME}, ")
    features = kept_features(task, folder)
    order = np.random.default_rng(cell.seed).permutation(len(features))
    pool, test = features[order[: _POOLS[task]]], features[order[_POOLS[task] :][:_N_TEST]]
    if cell.kind in _OWN_START:
        start, method = _OWN_START[cell.kind]
        first = suggest_first(Features(pool.values), _STEP, start, random_state=cell.seed)
        return _learn(pool, test, np.array(first["position"]), partial(by_library, method), cell.seed)
    return _learn(pool, test, np.arange(_STEP), WAYS[cell.kind], cell.seed)


def _learn(pool: Features, test: Features, labelled: np.ndarray, choose: Choose, seed: int) -> dict[str, float]:
    bare, rng = Features(pool.values), np.random.RandomState(seed)
    found: dict[str, float] = {}
    classes, seconds = np.unique(pool.labels), 0.0
    while True:
        head = _head(seed).repurpose(pool[labelled])
        found |= {f"{name} {len(labelled)}": value for name, value in _judged(head, test, classes).items()}
        if len(labelled) == _MOST:
            return {**found, "seconds": seconds / (len(_COUNTS) - 1)}
        start = time.perf_counter()
        chosen = choose(head, bare, labelled, _STEP, rng)
        seconds += time.perf_counter() - start
        found[f"expected drop {len(labelled)}"] = _expected(head, bare, labelled, chosen)
        labelled = np.concatenate([labelled, chosen])


def _head(seed: int) -> GpRepurposer:
    network = nn.Sequential()
    network.add_module(LAYER, nn.Identity())
    return GpRepurposer(network, [LAYER], random_state=seed)


def _judged(head: GpRepurposer, test: Features, classes: np.ndarray) -> dict[str, float]:
    probabilities = np.zeros((len(test), len(classes)))
    probabilities[:, np.searchsorted(classes, head.classes_)] = head.predict_probability(test)
    codes = np.searchsorted(classes, test.labels)
    own = probabilities[np.arange(len(test)), codes]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == codes).mean()),
        "log loss": float(-np.log(np.maximum(own, _FLOOR)).mean()),
        "entropy": float(entr(probabilities).sum(axis=1).mean()),
    }


def _expected(head: GpRepurposer, pool: Features, labelled: np.ndarray, chosen: np.ndarray) -> float:
    """By how much the labels are expected to lower the log loss at 200 rows that stay without a label."""
    rng = np.random.RandomState(len(labelled))
    others = rng.permutation(np.setdiff1d(np.arange(len(pool)), [*labelled, *chosen]))[:_N_TARGETS]
    latent = JointLatent.of(head.target_model_, pool[np.concatenate([chosen, others])].matrix)
    targets = DirichletTargets.of(head.alpha_eps_)
    return expected_drop(head.target_model_, latent, targets, len(chosen), rng).mean


def _query(cell: Cell, folder: Path) -> dict[str, float]:
    """Time `suggest_labels` over 5,000 rows, of MNIST and some digits, from features, with 500 labels."""
    mnist, digits = (kept_features(task, folder) for task in ("mnist", "digits"))
    order = np.random.default_rng(cell.seed).permutation(len(mnist))
    head = _head(cell.seed).repurpose(mnist[order[:_N_LABELLED]])
    rest = mnist[order[_N_LABELLED:]].matrix
    pool = Features({LAYER: np.concatenate([rest, digits.matrix[: _N_QUERY - len(rest)]])})
    wall, used = time.perf_counter(), time.process_time()
    head.suggest_labels(pool, _N_ASKED, cell.kind)
    return {"seconds": time.perf_counter() - wall, _CORE: time.process_time() - used}


def needed(findings: Findings, task: str, way: str, measure: str) -> Estimate | None:
    """Estimate how many labels a way needs to reach the mean of random rows at 100; 110 where it does not reach it.

    By the curves of means over the draws that both have; the standard error is that of the jackknife over draws.
    """
    ours, theirs = (_curves(findings, task, each, measure) for each in (way, RANDOM))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    curves, others = (np.array([each[seed] for seed in seeds]) * _MEASURES[measure] for each in (ours, theirs))
    found = _reached(curves.mean(axis=0), others[:, -1].mean())
    if len(seeds) == 1:
        return Estimate(found, np.nan, found)
    without = np.array(
        [
            _reached(np.delete(curves, draw, 0).mean(axis=0), np.delete(others[:, -1], draw).mean())
            for draw in range(len(seeds))
        ]
    )
    error = float(((len(seeds) - 1) * without.var()) ** 0.5)
    return Estimate(found, error, float(without.max()))


def _reached(curve: np.ndarray, level: float) -> float:
    """Where a curve over the numbers of labels first comes to a level, between them by a line."""
    for number, (labels, value) in enumerate(zip(_COUNTS, curve)):
        if value >= level - _ROUNDING:
            if number == 0:
                return float(labels)
            before = curve[number - 1]
            return float(labels - _STEP * max(0.0, value - level) / (value - before))
    return float(_MOST + _STEP)


def _curves(findings: Findings, task: str, way: str, measure: str) -> dict[int, list[float]]:
    """A measure at each number of labels, by the seed of the draw."""
    columns = [findings.values(_part(task), way, f"{measure} {n}") for n in _COUNTS]
    return {seed: [column[seed] for column in columns] for seed in columns[0] if all(seed in each for each in columns)}


def _part(task: str) -> str:
    return f"{NAME}, {task}"


def aims(findings: Findings) -> Iterator[list[str]]:
    """Yield each aim, what was found, and the verdict."""
    for task in _POOLS:
        for measure in _MEASURES:
            aim = f"suggestions, {task}: {AUTO} has the {measure} of 100 random rows with 70 labels"
            yield judged(aim, needed(findings, task, AUTO, measure), most=_MOST_LABELS)
        for measure, sign in _MEASURES.items():
            less = findings.difference(_part(task), AUTO, TYPICALITY, f"{measure} 20")
            aim = f"suggestions, {task}: {measure} of {AUTO} not worse than that of {TYPICALITY} at 20 labels"
            yield judged(aim, less, **({"least": 0.0} if sign > 0 else {"most": 0.0}), signed=True)
    seconds = findings.estimate(_QUERY, "doubt", _CORE)
    yield judged(f"suggestions: seconds of a core for {_N_QUERY:,} rows and {_N_LABELLED} labels", seconds, most=2.0)


def section(findings: Findings) -> Iterator[str]:
    """Yield the lines of the section."""
    yield from ["", *_HEAD.splitlines()]
    for task, size in _POOLS.items():
        ways = [way for way in (*WAYS, *_OWN_START) if findings.values(_part(task), way, f"accuracy {_MOST}")]
        if ways:
            draws = len(findings.values(_part(task), ways[0], f"accuracy {_MOST}"))
            yield from ["", f"### {task}: a pool of {size:,}, {draws} draws", ""]
            yield from table_lines(_COLUMNS, [_row(findings, task, way) for way in ways])
    yield from _of_drops(findings)
    rows = [
        [method, *(str(findings.estimate(_QUERY, method, name) or "") for name in ("seconds", _CORE))]
        for method in _OF_LIBRARY
    ]
    yield from ["", f"### A query over {_N_QUERY:,} rows with {_N_LABELLED} labels, for {_N_ASKED} rows", ""]
    yield from table_lines(["method", "seconds", _CORE], rows)


def _row(findings: Findings, task: str, way: str) -> list[str]:
    accuracies = (findings.estimate(_part(task), way, f"accuracy {n}") for n in _TOLD)
    losses = (findings.estimate(_part(task), way, f"log loss {n}") for n in _TOLD)
    counts = (needed(findings, task, way, measure) for measure in _MEASURES)
    seconds = findings.estimate(_part(task), way, "seconds")
    return [
        way,
        *(f"{count.mean:.0f} ({count.error:.0f})" if count else "" for count in counts),
        *(f"{found.mean:.3f}" if found else "" for found in accuracies),
        *(f"{found.mean:.2f}" if found else "" for found in losses),
        f"{seconds.mean:.2f}" if seconds else "",
    ]


def _of_drops(findings: Findings) -> Iterator[str]:
    yield from ["", *_DROPS.splitlines(), ""]
    rows = []
    for task in _POOLS:
        for way in (RANDOM, AUTO, "margin"):
            for what in ("expected", "came, of the entropy", "came, of the log loss"):
                drops = [_drop(findings, task, way, what, n) for n in _COUNTS[:-1]]
                if None not in drops:
                    rows.append([f"{task}, {way}", what, *(f"{drop.mean:.3f}" for drop in drops if drop)])
    yield from table_lines(["", "", *(f"{n} to {n + _STEP}" for n in _COUNTS[:-1])], rows)


def _drop(findings: Findings, task: str, way: str, what: str, n: int) -> Estimate | None:
    if what == "expected":
        return findings.estimate(_part(task), way, f"expected drop {n}")
    measure = what.removeprefix("came, of the ")
    before, after = (findings.values(_part(task), way, f"{measure} {count}") for count in (n, n + _STEP))
    return Estimate.of([before[seed] - after[seed] for seed in before if seed in after])
