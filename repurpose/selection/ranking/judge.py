"""A candidate is judged: the losses of each of its layers, and the other scores of those that are shown."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_handler import Features
from model_handler.network.ambient_modes import on_cpu
from model_handler.user_warnings import warn_user
from repurpose.data.labels import encode_labels
from repurpose.meta_model.layer_choice import distinct_layers
from repurpose.meta_model.outliers import bring_back_outliers
from repurpose.selection.ranking.candidates import Candidate
from repurpose.selection.ranking.class_means import class_mean_accuracy
from repurpose.selection.ranking.extraction import Extraction
from repurpose.selection.ranking.gp_loss import gp_losses
from repurpose.selection.ranking.h_score import regularised_h_score
from repurpose.selection.ranking.logme import log_me
from repurpose.selection.ranking.lr_loss import approximate_leave_one_out_losses, five_fold_losses
from repurpose.selection.ranking.nested import ChoiceOfFold, Nest
from repurpose.selection.ranking.task import Task
from repurpose.threads import threads_for

__all__ = ["LR_COLUMNS", "Judged", "JudgedLayer", "judge"]

LR_COLUMNS = {"five-fold": "lr_log_loss_5fold", "alo": "lr_log_loss_alo"}

Key = tuple[str, str]  # layer and pooling


@dataclass(frozen=True, eq=False)
class JudgedLayer:
    """One layer of a candidate in one pooling: the losses (nats) of rows left out, (n_rows,), and other scores."""

    layer: str
    pooling: str
    losses: np.ndarray
    scores: dict[str, float]

    @property
    def loss(self) -> float:
        return float(np.nanmean(self.losses))


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate with its layers, best first: all that were asked for; or why there are none.

    `failed` says for layers by pooling why they could not be judged, where others could.
    """

    candidate: Candidate
    layers: list[JudgedLayer] = field(default_factory=list)
    failed: dict[Key, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    nested: list[ChoiceOfFold] = field(default_factory=list)
    error: str | None = None


@on_cpu()
def judge(
    candidate: Candidate,
    extraction: Extraction,
    labels: np.ndarray,
    task: Task,
    nest: Nest | None,
    *,
    lr: str | None,
    every_layer: bool,
) -> Judged:
    """Score the layers of a candidate in each pooling; of layers with the same features the last one counts.

    Other scores than the losses are those of the best layer alone, unless `every_layer` is wanted.
    """
    started = time.perf_counter()
    rows = _rows_of_layers(extraction, labels, task)
    losses, failed = _losses(rows, task)
    ordered = sorted(losses, key=lambda key: float(np.nanmean(losses[key])))
    shown = ordered if every_layer else ordered[:1]
    layers = [JudgedLayer(*key, losses[key], _other_scores(rows[key], task, lr, candidate.name)) for key in shown]
    nested = [] if nest is None else nest.choose({key: _raw_rows(extraction, key, task) for key in losses})
    facts = {
        "parameters": extraction.n_parameters,
        "imagenet_accuracy": candidate.published_accuracy,
        "extraction_seconds": extraction.seconds,
        "extraction_mb": extraction.megabytes,
        "scoring_seconds": time.perf_counter() - started,
    }
    return Judged(candidate, layers, failed if every_layer else {}, facts, nested)


def _losses(rows: dict[Key, np.ndarray], task: Task) -> tuple[dict[Key, np.ndarray], dict[Key, str]]:
    """Return the losses of the layers that can be judged, and why others cannot. Raises ValueError if none can."""
    losses: dict[Key, np.ndarray] = {}
    failed: dict[Key, str] = {}
    for key, of_layer in rows.items():
        try:
            losses[key] = gp_losses(of_layer, task)
        except ValueError as error:  # of a kernel that is no kernel in floating point
            failed[key] = f"ValueError: {error}"
    if not losses:
        raise ValueError(f"no layer can be judged: {'; '.join(dict.fromkeys(failed.values()))}")
    return losses, failed


def _rows_of_layers(extraction: Extraction, labels: np.ndarray, task: Task) -> dict[Key, np.ndarray]:
    codes = encode_labels(labels).codes
    found: dict[Key, np.ndarray] = {}
    for pooling, features in extraction.features.items():
        ordinary: Features = bring_back_outliers(features, codes)
        for name in distinct_layers(ordinary):
            found[name, pooling] = ordinary.values[name][task.order]
    return found


def _raw_rows(extraction: Extraction, key: Key, task: Task) -> np.ndarray:
    layer, pooling = key
    return extraction.features[pooling].values[layer][task.order]


def _other_scores(rows: np.ndarray, task: Task, lr: str | None, name: str) -> dict[str, float]:
    with threads_for(len(rows)):
        return {
            **({} if lr is None else {LR_COLUMNS[lr]: _lr_loss(rows, task, lr, name)}),
            "class_mean_accuracy": class_mean_accuracy(rows, task.codes, task.groups),
            "logme": log_me(rows, task.codes),
            "h_score": regularised_h_score(rows, task.codes),
        }


def _lr_loss(rows: np.ndarray, task: Task, lr: str, name: str) -> float:
    """Return the mean log loss of logistic regression; NaN with a warning where one step takes too large a matrix."""
    if lr == "five-fold":
        return float(np.nanmean(five_fold_losses(rows, task.codes, task.folds)))
    try:
        losses = approximate_leave_one_out_losses(rows, task.codes, task.groups)
    except ValueError as error:
        warn_user(f"{name}: {error}")
        return float("nan")
    return float(losses[task.left_out].mean())
