"""`suggest_labels` chooses, from a pool, the rows whose labels would teach a trained head most."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from model_handler import Features
from model_handler.network.ambient_modes import on_cpu
from repurpose.labelling.suggesting.clusters import directions, nearest_rows, scaling_of
from repurpose.labelling.suggesting.epig import Epig
from repurpose.labelling.suggesting.expected_drop import expected_drop
from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.labelling.suggesting.margin import by_margin, least_sure
from repurpose.labelling.suggesting.pool import Judged, Suggesting, judge, part_of, rows_without_label
from repurpose.labelling.suggesting.typiclust import typiclust
from repurpose.labelling.suggesting.variance import by_variance
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.seeding import rng_at_prediction
from repurpose.selection.results.tables import as_table

if TYPE_CHECKING:
    from pandas import DataFrame

    from repurpose.selection.results.tables import ResultTable

__all__ = ["METHODS", "suggest_labels"]

METHODS = ("auto", "doubt", "epig", "variance", "margin", "typicality")
_OF_GP = ("doubt", "epig", "variance")
_MOST_CANDIDATES, _MOST_TARGETS = 500, 200
_MOST_FOR_VARIANCE, _MOST_TO_BE_SURE_OF = 1500, 400  # there are no classes to go through
_MOST_FOR_TYPICALITY = 10_000  # rows in k-means
_MOST_EXPECTED_OF = 300  # labels: what they teach together takes the cube of their number


Chosen: TypeAlias = tuple[np.ndarray, list[float]]  # positions in the pool, in the order of choice, and their scores


@on_cpu()
def suggest_labels(repurposer: Suggesting, features: Features, n: int, method: str) -> "DataFrame | ResultTable":
    """Suggest rows of a pool; see `SuggestingMixin.suggest_labels`."""
    is_gp = isinstance(vars(repurposer).get("target_model_"), GpModel)
    if method == "auto":
        method = "doubt" if is_gp else "margin"
    if method in _OF_GP and not is_gp:
        raise NotImplementedError(
            f"method {method!r} needs the Gaussian process of a GpRepurposer, and this is a "
            f'{type(repurposer).__name__}; use "margin"'
        )
    if method == "typicality" and "training_features_" not in vars(repurposer):
        raise NotImplementedError(
            f"method {method!r} needs the rows of training, and a {type(repurposer).__name__} keeps none; use "
            '"margin", or repurpose.suggest_first'
        )
    rows = rows_without_label(features, n)
    judged = judge(repurposer, features, rows)
    rng = rng_at_prediction(repurposer)
    positions, scores = _METHODS[method](repurposer, features, judged, n, rng)
    notes = {"method": method, "n_rows": len(rows), "expected_log_loss": float(judged.entropies.mean())}
    if is_gp:
        notes |= _expectations(repurposer, features, judged, positions, rng)
    return as_table(_table_rows(repurposer, features, positions, scores), notes)


def _by_margin(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> Chosen:
    some = least_sure(judged.margin, n)
    positions = judged.rows[some]
    candidates = part_of(features, positions)
    rows = directions(scaling_of(candidates.matrix, candidates.indices_per_layer), candidates.matrix)
    chosen, scores = by_margin(rows, judged.margin[some], n, rng)
    return positions[chosen], scores


def _by_typicality(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> Chosen:
    training = repurposer.training_features_  # type: ignore[attr-defined]
    positions = np.sort(rng.permutation(judged.rows)[: max(n, _MOST_FOR_TYPICALITY)])
    pool = part_of(features, positions)
    matrix = np.concatenate([training, pool.matrix])
    is_labelled = np.arange(len(matrix)) < len(training)
    rows = directions(scaling_of(matrix, pool.indices_per_layer), matrix)
    chosen = typiclust(rows, n, rng, is_labelled)
    return positions[chosen.rows - len(training)], chosen.scores.tolist()


def _by_epig(repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState) -> Chosen:
    candidates = judged.rows[_candidates(judged, max(n, _MOST_CANDIDATES), rng)]
    targets = rng.permutation(judged.rows)[:_MOST_TARGETS]
    latent = _latent(repurposer, features, candidates, targets)
    chosen, scores = Epig(_model_of(repurposer), latent, _targets_of(repurposer), rng).choose(len(candidates), n)
    return candidates[chosen], scores


def _by_variance(
    repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState
) -> Chosen:
    candidates, targets = _drawn(judged, n, rng)
    latent = _latent(repurposer, features, judged.rows[candidates], judged.rows[targets])
    chosen, scores = by_variance(latent.shared, len(candidates), _targets_of(repurposer).other_noise, n)
    return judged.rows[candidates[chosen]], scores


def _by_doubt(repurposer: Suggesting, features: Features, judged: Judged, n: int, rng: np.random.RandomState) -> Chosen:
    candidates, targets = _drawn(judged, n, rng)
    latent = _latent(repurposer, features, judged.rows[candidates], judged.rows[targets])
    weights, noise = torch.from_numpy(judged.entropies[targets]), _targets_of(repurposer).own_noise
    chosen, scores = by_variance(latent.average_covariance(), len(candidates), noise, n, weights)
    return judged.rows[candidates[chosen]], scores


def _drawn(judged: Judged, n: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Draw the numbers of rows to choose from, in their order, and of rows to be sure of."""
    n_rows = len(judged.rows)
    return np.sort(rng.permutation(n_rows)[: max(n, _MOST_FOR_VARIANCE)]), rng.permutation(n_rows)[:_MOST_TO_BE_SURE_OF]


def _latent(repurposer: Suggesting, features: Features, some: np.ndarray, others: np.ndarray) -> JointLatent:
    return JointLatent.of(_model_of(repurposer), part_of(features, np.concatenate([some, others])).matrix)


def _expectations(
    repurposer: Suggesting, features: Features, judged: Judged, chosen: np.ndarray, rng: np.random.RandomState
) -> dict[str, float]:
    """Say by how much the labels should lower the log loss over the rows that are left, and to what it falls."""
    left = np.flatnonzero(~np.isin(judged.rows, chosen))
    if len(left) == 0 or len(chosen) > _MOST_EXPECTED_OF:
        return {}
    calibration, model = vars(repurposer).get("calibration_"), _model_of(repurposer)
    if calibration is not None:
        if calibration.temperature is None:  # numbers for each class are no temperature
            return {}
        model = replace(model, temperature=model.temperature * calibration.temperature)
    latent = _latent(repurposer, features, chosen, judged.rows[rng.permutation(left)[:_MOST_TARGETS]])
    drop = expected_drop(model, latent, _targets_of(repurposer), len(chosen), rng)
    return {
        "expected_drop": drop.mean,
        "expected_drop_error": drop.error,
        "log_loss_then": float(judged.entropies[left].mean()) - drop.mean,
    }


_METHODS: dict[str, Callable[[Suggesting, Features, Judged, int, np.random.RandomState], Chosen]] = {
    "doubt": _by_doubt,
    "epig": _by_epig,
    "variance": _by_variance,
    "margin": _by_margin,
    "typicality": _by_typicality,
}


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


def _table_rows(
    repurposer: Suggesting, features: Features, positions: np.ndarray, scores: list[float]
) -> list[dict[str, Any]]:
    chosen = part_of(features, positions)
    labels = repurposer.classes_[repurposer._predict_codes(chosen)[0]].tolist()
    rows = [
        {"position": int(position), "score": score, "label": label}
        for position, score, label in zip(positions, scores, labels)
    ]
    training = vars(repurposer).get("training_features_")
    if training is not None:  # networks that were trained keep no rows
        scaling = scaling_of(training, chosen.indices_per_layer)
        nearest = nearest_rows(directions(scaling, chosen.matrix), directions(scaling, training))
        for row, number in zip(rows, nearest.tolist()):
            row["nearest"] = number
    return rows
