"""Pruners end the training of a network that falls behind those before it: Optuna's, by a short name or as they are."""

from typing import TYPE_CHECKING

from model_handler.errors import nearest
from repurpose.selection.tuning.study import needed_optuna

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

__all__ = ["chosen_pruner"]

_NAMES = ("median", "halving")
_N_WHOLE = 4  # trials that are never pruned, so that there is something to fall behind


def chosen_pruner(pruner: "str | BasePruner | None") -> "BasePruner":
    """Return the pruner of a name; with None, one that ends nothing.

    ``"median"`` ends a training whose best validation loss so far is above the median of the others after as many
    epochs, ``"halving"`` is asynchronous successive halving (Li et al. 2018). Raises ValueError for any other name, and
    TypeError for what is no pruner.
    """
    pruners = needed_optuna().pruners
    if pruner is None:
        return pruners.NopPruner()
    if isinstance(pruner, pruners.BasePruner):
        return pruner
    if not isinstance(pruner, str):
        raise TypeError(f"pruner must be one of {list(_NAMES)}, None or one of Optuna's, got {pruner!r}")
    if pruner not in _NAMES:
        raise ValueError(f"there is no pruner {pruner!r}; nearest: {nearest(pruner, _NAMES)[0]!r}")
    if pruner == "median":
        return pruners.MedianPruner(n_startup_trials=_N_WHOLE, n_warmup_steps=1)
    return pruners.SuccessiveHalvingPruner()
