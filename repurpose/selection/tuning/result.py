"""What a tuning gives: the trained Repurposer, all trials, and what is known of its worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repurpose.repurposer import Repurposer
from repurpose.selection.results.tables import ResultTable

if TYPE_CHECKING:
    from optuna.study import Study
    from pandas import DataFrame

__all__ = ["TuningResult"]


@dataclass(frozen=True, eq=False, repr=False)
class TuningResult:
    """What `tune` gives.

    Attributes
    ----------
    best_repurposer : Repurposer
        Trained on all of the data with the best parameters.
    best_parameters : dict
        The values of the parameters in the space.
    best_value : float
        What they were chosen by: the largest of all trials' scores, and no score itself. Of many trials the best is
        partly the luckiest; what to expect on new data is `outer_score`.
    trials : DataFrame or ResultTable
        A row for each trial, the best first: its `trial` number, its parameters, `value` (None without one), `state`
        (``"complete"``, ``"pruned"`` or ``"failed"``), of networks how many `epochs` were trained, the trial that it
        `repeats`, `seconds` and the `message` of a failure.
    scoring : str
        By what trials were scored; the larger, the better.
    outer_score : float or None
        The mean score on rows that took no part in the choice, of a tuning of its own without each outer fold. None
        without ``nested=``.
    outer_error : float or None
        The standard error of that mean, from the spread over the outer folds: a rough one of so few, and rather too
        small, as what they train on is mostly the same rows (Bengio and Grandvalet 2004).
    outer_scores : ndarray of shape (n_outer_folds,) or None
        The score of each outer fold.
    study : optuna.study.Study
        Optuna's own record of the trials, for its plots.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> from repurpose.selection import tune
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> data = make_blobs(40, cluster_std=4.0, random_state=8)
    >>> result = tune(LrRepurposer(network), data, space={"c": [0.01, 1.0]}, budget=4, random_state=0)
    >>> sorted(result.trials["c"])
    [0.01, 0.01, 1.0, 1.0]
    """

    best_repurposer: Repurposer
    best_parameters: Mapping[str, Any]
    best_value: float
    trials: "DataFrame | ResultTable"
    scoring: str
    outer_score: float | None
    outer_error: float | None
    outer_scores: np.ndarray | None
    study: "Study"

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={_shown(value)}" for name, value in self.best_parameters.items())
        chosen = f"chosen by {self.scoring} {self.best_value:.4g}, the largest of {len(self.trials)} trials"
        if self.outer_score is None:
            outer = "which is no score; what to expect on new data is not known without nested=5"
        else:
            outer = f"which is no score; outer score {self.outer_score:.4g} +- {self.outer_error:.2g}"
        return f"TuningResult({parameters}; {chosen}, {outer})"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
