"""What a Gaussian process has learned follows its rows, and the evidence tells when its kernel no longer suits them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating.held import evidence_per_row, refit_held, update_held

__all__ = ["follow_rows", "is_due", "why_due"]

_MAX_UPDATES = 100  # after which the exact solve is made anew
# Of the evidence, nats by row and class: new rows of the same kind never cost more than 0.011 in 108 draws of the
# `labels` benchmark's images, where the kernel learned anew was worth nothing; a tenth of another kind cost about 0.05.
_DUE = 0.02


def follow_rows(
    model: GpModel,
    learned: Mapping[str, Any],
    rows: ChangedRows,
    targets: DirichletTargets,
    n_points: int | None,
    random_state: np.random.RandomState,
) -> dict[str, Any]:
    """Condition on other rows at the numbers that were `learned`: what changes of these, by name.

    Exact posteriors are updated where that is faster; after a hundred updates rounding may show, and the solve is made
    anew.
    """
    is_exact, n_updates = n_points is None and learned["n_inducing_"] is None, learned.get("n_updates_", 0)
    updated = update_held(model, rows, targets) if is_exact and n_updates < _MAX_UPDATES else None
    n_updates = 0 if updated is None else n_updates + 1
    if updated is None:
        updated = refit_held(model, rows, targets, n_points, random_state)
    return {
        "target_model_": updated,
        "prior_mean_": updated.mean,
        "n_inducing_": None if n_points is None else len(updated.points[0]),
        "n_updates_": n_updates,
        "update_": "exact" if n_points is None else "inducing points",
        **_evidence(updated, learned, rows, targets),
    }


def is_due(learned: Mapping[str, Any]) -> bool:
    """Return whether the kernel suits the rows less than when it was learned."""
    return learned.get("evidence_drop_", 0.0) > _DUE


def why_due(learned: Mapping[str, Any]) -> str:
    """Return the sentence that says so."""
    return (
        f"the log evidence is {learned['evidence_drop_']:.3f} nats by row and class below what it was when the kernel "
        "was learned: the rows have become of another kind, for which refresh() learns it anew, or labels of new rows "
        "are wrong (see find_label_errors())"
    )


def _evidence(
    updated: GpModel, learned: Mapping[str, Any], rows: ChangedRows, targets: DirichletTargets
) -> dict[str, float]:
    """Return by how much the evidence has dropped since the kernel was learned, where that is known."""
    now = evidence_per_row(updated.solve, updated.weights, updated.mean, targets, rows.weights)
    before = learned.get("evidence_per_row_")
    if now is None or before is None:
        return {}
    if rows.has_same_classes:
        return {"evidence_drop_": before - now}
    drop = learned.get("evidence_drop_", 0.0)  # the evidence of other classes is another number
    return {"evidence_drop_": drop, "evidence_per_row_": now + drop}
