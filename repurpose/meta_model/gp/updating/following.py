"""What a Gaussian process has learned follows its rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets
from repurpose.meta_model.gp.updating.evidence_drop import evidence_of_change
from repurpose.meta_model.gp.updating.held import refit_held, update_held

__all__ = ["follow_rows"]

_MAX_UPDATES = 100  # after which the exact solve is made anew


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
    changed = {
        "target_model_": updated,
        "prior_mean_": updated.mean,
        "n_inducing_": None if n_points is None else len(updated.points[0]),
        "n_updates_": n_updates,
        "update_": "exact" if n_points is None else "inducing points",
    }
    return changed | evidence_of_change(learned, updated, targets, rows)
