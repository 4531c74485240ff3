"""`suggest_labels` chooses, from a pool, the rows whose labels would teach a trained head most."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_handler import Features
from model_handler.network.ambient_modes import on_cpu
from repurpose.labelling.suggesting.clusters import directions, nearest_rows, scaling_of
from repurpose.labelling.suggesting.epig import Epig
from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.labelling.suggesting.margin import by_margin, least_sure
from repurpose.labelling.suggesting.pool import Judged, Suggesting, judge, part_of, rows_without_label
from repurpose.labelling.suggesting.variance import by_variance
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.seeding import rng_at_prediction
from repurpose.selection.results.tables import as_table

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["METHODS", "suggest_labels"]

METHODS = ("auto", "epig", "variance", "margin")
_MOST_CANDIDATES, _MOST_TARGETS = 500, 200
_MOST_FOR_VARIANCE = 2000  # candidates: there are no classes to go through


@dataclass(frozen=True, eq=False)
class _Suggestions:
    """Positions in the pool with their scores, and what holds for all of them."""

    positions: np.ndarray
    scores: list[float]
    notes: dict[str, Any]


@on_cpu()
def suggest_labels(repurposer: Suggesting, features: Features, n: int, method: str) -> "DataFrame | ResultTable":
    """Suggest rows of a pool; see `SuggestingMixin.suggest_labels`."""
    head = vars(repurposer).get("target_model_")
    if method == "auto":
        method = "epig" if isinstance(head, GpModel) else "margin"
    if method != "margin" and not isinstance(head, GpModel):
        raise NotImplementedError(
            f"method {method!r} needs the Gaussian process of a GpRepurposer, and this is a "
            f'{type(repurposer).__name__}; use "margin"'
        )
    rows = rows_without_label(features, n)
    judged = judge(repurposer, features, rows)
    rng = rng_at_prediction(repurposer)
    choose = {"epig": _by_epig, "variance": _by_variance, "margin": _by_margin}[method]
    found = choose(repurposer, features, judged, n, rng)
    notes = {"method": method, "n_rows": len(rows), "expected_log_loss": judged.entropy, **found.notes}
    return as_table(_table_rows(repurposer, features, found), notes)


def _by_margin(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> _Suggestions:
    some = least_sure(judged.margin, n)
    positions = judged.rows[some]
    candidates = part_of(features, positions)
    rows = directions(scaling_of(candidates.matrix, candidates.indices_per_layer), candidates.matrix)
    chosen, scores = by_margin(rows, judged.margin[some], n, rng)
    return _Suggestions(positions[chosen], scores, {})


def _by_epig(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> _Suggestions:
    candidates = judged.rows[_candidates(judged, max(n, _MOST_CANDIDATES), rng)]
    targets = rng.permutation(judged.rows)[:_MOST_TARGETS]
    model = _model_of(repurposer)
    latent = JointLatent.of(model, part_of(features, np.concatenate([candidates, targets])).matrix)
    chosen = Epig(model, latent, _targets_of(repurposer), rng).choose(len(candidates), n)
    notes = {"expected_drop": chosen.drop, "expected_drop_error": chosen.error}
    return _Suggestions(candidates[chosen.rows], chosen.scores, notes)


def _by_variance(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> _Suggestions:
    candidates = np.sort(rng.permutation(judged.rows)[: max(n, _MOST_FOR_VARIANCE)])
    targets = rng.permutation(judged.rows)[:_MOST_TARGETS]
    latent = JointLatent.of(_model_of(repurposer), part_of(features, np.concatenate([candidates, targets])).matrix)
    chosen, scores = by_variance(latent.shared, len(candidates), _targets_of(repurposer).other_noise, n)
    return _Suggestions(candidates[chosen], scores, {})


def _candidates(judged: Judged, size: int, rng: np.random.RandomState) -> np.ndarray:
    """Return at most `size` of the rows: half are those of smallest margin, half are spread over the likeliest classes.

    The doubtful ones alone would lie where classes overlap, and leave out those that many other rows are like.
    """
    n_rows = len(judged.margin)
    if n_rows <= size:
        return np.arange(n_rows)
    by_doubt = np.argsort(judged.margin, kind="stable")
    doubtful, rest = by_doubt[: size // 2], rng.permutation(by_doubt[size // 2 :])
    # In turn from each class, at random within it: the first of each, then the second of each, ...
    turn = np.empty(len(rest), dtype=np.int64)
    for c in np.unique(judged.likeliest[rest]):
        of_class = judged.likeliest[rest] == c
        turn[of_class] = np.arange(of_class.sum())
    return np.sort(np.concatenate([doubtful, rest[np.argsort(turn, kind="stable")][: size - len(doubtful)]]))


def _model_of(repurposer: Suggesting) -> GpModel:
    return repurposer._model  # type: ignore[attr-defined]


def _targets_of(repurposer: Suggesting) -> DirichletTargets:
    return DirichletTargets.of(repurposer.alpha_eps_)  # type: ignore[attr-defined]


def _table_rows(repurposer: Suggesting, features: Features, found: _Suggestions) -> list[dict[str, Any]]:
    chosen = part_of(features, found.positions)
    labels = repurposer.classes_[repurposer._predict_codes(chosen)[0]].tolist()
    rows = [
        {"position": int(position), "score": score, "label": label}
        for position, score, label in zip(found.positions, found.scores, labels)
    ]
    training = vars(repurposer).get("training_features_")
    if training is not None:  # networks that were trained keep no rows
        scaling = scaling_of(training, chosen.indices_per_layer)
        nearest = nearest_rows(directions(scaling, chosen.matrix), directions(scaling, training))
        for row, number in zip(rows, nearest.tolist()):
            row["nearest"] = number
    return rows
