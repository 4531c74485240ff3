"""Whether the kernel suits the rows as it did when it was learned, the evidence of the held kernel tells.

It is compared by row and class: more rows of the same kind are known ever better, so that it rises.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from repurpose.data.changed_rows import ChangedRows
from repurpose.meta_model.gp.evidence import Posterior, log_evidence_of
from repurpose.meta_model.gp.exact_solve import ExactSolve
from repurpose.meta_model.gp.inducing import SparsePosterior
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["REFRESH_DUE", "evidence_of_change", "evidence_when_learned", "is_refresh_due"]

# Nats by row and class. Features of MNIST, 30 to 300 rows: as many of the same kind again never cost more than 0.011 in
# 108 draws, and a kernel learned anew was worth nothing; a tenth of another kind cost about 0.05, and it was.
_MOST = 0.02
REFRESH_DUE = (
    f"the log evidence is more than {_MOST} nats by row and class below what it was when the kernel was learned "
    "(evidence_drop_): the rows have become of another kind, for which refresh() learns it anew, or labels of new rows "
    "are wrong (see find_label_errors())"
)


def evidence_when_learned(
    posterior: Posterior | SparsePosterior, targets: DirichletTargets, row_weights: np.ndarray | None
) -> dict[str, float]:
    """Return `evidence_per_row_`, the log evidence in nats by the rows, as often as they count, and by the classes."""
    now = _by_row(posterior, targets, row_weights)
    return {} if now is None else {"evidence_per_row_": now}


def evidence_of_change(
    learned_before: Mapping[str, Any], model: GpModel, targets: DirichletTargets, rows: ChangedRows
) -> dict[str, float]:
    """Return `evidence_drop_` of the changed rows, as far as the evidence of before and of now are known.

    That of other classes is another number: then the drop stays, and `evidence_per_row_` is what suits it.
    """
    before, drop = learned_before.get("evidence_per_row_"), learned_before.get("evidence_drop_", 0.0)
    now = _by_row(model, targets, rows.weights)
    if now is None or before is None:
        return {}
    if rows.has_same_classes:
        return {"evidence_drop_": before - now}
    return {"evidence_drop_": drop, "evidence_per_row_": now + drop}


def is_refresh_due(learned: Mapping[str, Any]) -> bool:
    """Return whether the evidence has fallen too far."""
    return learned.get("evidence_drop_", 0.0) > _MOST


def _by_row(
    posterior: Posterior | SparsePosterior | GpModel, targets: DirichletTargets, row_weights: np.ndarray | None
) -> float | None:
    """Compute the log evidence by row and class: None through inducing points."""
    solve = posterior.solve
    if not isinstance(solve, ExactSolve):
        return None
    repeats = None if row_weights is None else torch.from_numpy(row_weights)
    n_rows = len(solve.P) if row_weights is None else float(row_weights.sum())
    evidence = log_evidence_of(solve, posterior.weights, posterior.mean, targets, repeats)
    return evidence / (n_rows * solve.n_classes)
