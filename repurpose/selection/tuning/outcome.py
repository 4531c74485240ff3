"""The table of the trials of a study, the best first."""

from typing import TYPE_CHECKING, Any

from repurpose.selection.results.tables import ResultTable, as_table
from repurpose.selection.tuning.search import MESSAGE, REPEATS, SECONDS, counted_trials

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from pandas import DataFrame

__all__ = ["trials_table"]

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def trials_table(study: "Study") -> "DataFrame | ResultTable":
    """Return a row for each trial that ended: those with a score first, the largest of them on top."""
    trials = sorted(counted_trials(study), key=_place)
    with_epochs = any(trial.intermediate_values for trial in trials)
    return as_table([_row(trial, with_epochs) for trial in trials])


def _place(trial: "FrozenTrial") -> tuple[int, float, int]:
    state = list(_STATES).index(trial.state.name)
    return state, -trial.value if state == 0 and trial.value is not None else 0.0, trial.number


def _row(trial: "FrozenTrial", with_epochs: bool) -> dict[str, Any]:
    state = _STATES[trial.state.name]
    return {
        "trial": trial.number,
        **trial.params,
        "value": trial.value if state == "complete" else None,
        "state": state,
        **({"epochs": len(trial.intermediate_values)} if with_epochs else {}),
        "repeats": trial.user_attrs.get(REPEATS),
        "seconds": trial.user_attrs.get(SECONDS),
        "message": trial.user_attrs.get(MESSAGE, ""),
    }
