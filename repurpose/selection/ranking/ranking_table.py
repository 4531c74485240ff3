"""The table of a ranking: its rows in order, what sets them apart from the first one, and simple rankings beside."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from repurpose.selection.ranking.judge import Judged, JudgedLayer
from repurpose.selection.ranking.nested import Nest
from repurpose.selection.ranking.task import Task
from repurpose.selection.results.paired import paired_error

__all__ = ["nested_notes", "ranked_rows"]

_NAN = float("nan")


def ranked_rows(judged: Sequence[Judged], task: Task | None, nest: Nest | None, seed: int) -> list[dict[str, Any]]:
    """Return the rows of the table, best first, and candidates that could not be judged at the end."""
    by_size = _ranks([each.facts.get("parameters") for each in judged])
    by_accuracy = _ranks([each.facts.get("imagenet_accuracy") for each in judged])
    found: list[tuple[JudgedLayer, dict[str, Any]]] = []
    for each, size, accuracy in zip(judged, by_size, by_accuracy):
        facts = {"source": each.candidate.name, **each.facts, "size_rank": size, "imagenet_rank": accuracy}
        if nest is not None:
            facts["nested_log_loss"] = _mean_of_folds(each)
        found += [(layer, facts) for layer in each.layers]
    found.sort(key=lambda pair: pair[0].loss)
    rows: list[dict[str, Any]] = []
    for layer, facts in found:
        difference, deviation = _paired(layer.losses, found[0][0].losses, task, seed)
        own = {"layer": layer.layer, "pooling": layer.pooling, "gp_log_loss": layer.loss}
        rows.append({**facts, **own, "difference": difference, "difference_error": deviation, **layer.scores})
    for each in judged:
        for (layer_name, pooling), error in each.failed.items():
            rows.append({"source": each.candidate.name, "layer": layer_name, "pooling": pooling, "error": error})
        if each.error is not None:
            rows.append({"source": each.candidate.name, "error": each.error})
    return _in_columns(rows)


def nested_notes(judged: Sequence[Judged], nest: Nest, seed: int) -> dict[str, Any]:
    """Return the log loss (nats) of choosing the first row, its standard error, and what was chosen without each fold.

    Without a fold the candidate is chosen that does best within the others, and the fold is predicted by it alone.
    """
    able = [each for each in judged if each.nested]
    if not able:
        return {}
    losses, choices = [], []
    for fold in range(len(nest.inner)):
        best = min(able, key=lambda each: each.nested[fold].inner)
        chosen = best.nested[fold]
        losses.append(chosen.losses)
        choices.append((best.candidate.name, chosen.layer, chosen.pooling))
    together, task = np.concatenate(losses), nest.task
    groups = None if task.groups is None else task.groups[nest.held_out_rows()]
    return {
        "nested_log_loss": float(together.mean()),
        "nested_log_loss_error": paired_error(together, np.random.RandomState(seed), groups),
        "nested_choices": choices,
    }


def _paired(losses: np.ndarray, first: np.ndarray, task: Task | None, seed: int) -> tuple[float, float]:
    """Return the mean difference to the losses of the first row, and its standard error; every pair draws alike."""
    if task is None or losses is first:
        return 0.0, 0.0
    judged = task.left_out
    differences = (losses - first)[judged]
    groups = None if task.groups is None else task.groups[judged]
    return float(differences.mean()), paired_error(differences, np.random.RandomState(seed), groups)


def _mean_of_folds(judged: Judged) -> float:
    return float(np.concatenate([choice.losses for choice in judged.nested]).mean()) if judged.nested else _NAN


def _ranks(values: Sequence[float | None]) -> list[float]:
    """Return the rank of each value, 1 for the largest; NaN for what has none. Equal values share the better rank."""
    known = [_NAN if value is None else float(value) for value in values]
    return [_NAN if np.isnan(value) else 1.0 + sum(other > value for other in known) for value in known]


_COLUMNS = (
    "source",
    "layer",
    "pooling",
    "gp_log_loss",
    "difference",
    "difference_error",
    "nested_log_loss",
    "lr_log_loss_5fold",
    "lr_log_loss_alo",
    "class_mean_accuracy",
    "logme",
    "h_score",
    "parameters",
    "size_rank",
    "imagenet_accuracy",
    "imagenet_rank",
    "extraction_seconds",
    "extraction_mb",
    "scoring_seconds",
    "error",
)
_TEXTS = ("layer", "pooling", "error")
_ALWAYS = {"source", "layer", "pooling", "gp_log_loss", "difference", "difference_error", "error"}


def _in_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring rows into one order of columns, with None or NaN for what a row has not."""
    used = _ALWAYS.union(*rows)

    def value(row: dict[str, Any], name: str) -> Any:
        found = row.get(name)
        return _NAN if found is None and name not in _TEXTS else found

    return [{name: value(row, name) for name in _COLUMNS if name in used} for row in rows]
