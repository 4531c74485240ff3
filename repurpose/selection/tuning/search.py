"""The search: one trial after another, each drawn by what those before it gave, until the budget is spent.

The sampler is Optuna's tree-structured Parzen estimator (Bergstra et al. 2011). Each trial has one of its own, seeded
by how many were finished before, so that a study that was interrupted goes on as if it had not been.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from model_handler.progress import Progress
from repurpose.selection.tuning.space import Drawn
from repurpose.selection.tuning.study import INTERRUPTED, needed_optuna
from repurpose.selection.tuning.trials import PrunedError, Trials

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["MESSAGE", "REPEATS", "SECONDS", "best_trial", "counted_trials", "search"]

MESSAGE, REPEATS, SECONDS = "message", "repeats", "seconds"  # what is noted of a trial
_FAILURES = (ValueError, RuntimeError, ArithmeticError)


def search(
    study: "Study", trials: Trials, *, budget: int | None, seconds: float | None, seed: int, verbose: bool | None
) -> None:
    """Run trials until there are `budget` of them in the study, or none begins any more after `seconds`.

    One trial at least is run. Parameters that were drawn before are not tried again: they get what they got.

    Raises ValueError with the first reason where all trials failed.
    """
    optuna, started = needed_optuna(), time.monotonic()
    n_done = len(counted_trials(study))
    n_left = None if budget is None else max(budget - n_done, 0)
    with Progress("Tuning", n_left, verbose, "the trials", "trials") as progress:
        while not _is_spent(n_done, budget, time.monotonic() - started, seconds):
            study.sampler = optuna.samplers.TPESampler(seed=_seed_of(seed, n_done))
            trial = study.ask(dict(trials.space.distributions))
            _run(study, trials, trial)
            n_done += 1
            progress.advance(1, lambda: _note(study))
        progress.finish()
    found = counted_trials(study)
    if not _scored(study):
        reasons = [trial.user_attrs.get(MESSAGE, "") for trial in found]
        raise ValueError(f"none of {len(found)} trials gave a score; the first one says: {reasons[0]}")


def counted_trials(study: "Study") -> "list[FrozenTrial]":
    """Return the trials that ended, by whatever end but that of their process, in order."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and INTERRUPTED not in trial.user_attrs
    ]


def best_trial(study: "Study") -> "FrozenTrial":
    """Return the trial of the largest score, the first of several."""
    return max(_scored(study), key=lambda trial: trial.values[0])


def _scored(study: "Study") -> "list[FrozenTrial]":
    complete = needed_optuna().trial.TrialState.COMPLETE
    return [trial for trial in counted_trials(study) if trial.state == complete]


def _is_spent(n_done: int, budget: int | None, elapsed: float, seconds: float | None) -> bool:
    if budget is not None and n_done >= budget:
        return True
    return seconds is not None and elapsed >= seconds and n_done > 0


def _seed_of(seed: int, n_done: int) -> int:
    return int(np.random.SeedSequence([seed, n_done]).generate_state(1)[0])


def _run(study: "Study", trials: Trials, trial: "Trial") -> None:
    """Run one trial and tell the study how it ended. Raises what is no fault of its parameters."""
    states, drawn = needed_optuna().trial.TrialState, trial.params
    if (earlier := next(_same(study, drawn), None)) is not None:
        return _repeat(study, trial, earlier)
    started = time.monotonic()
    value, state = None, states.COMPLETE
    try:
        value = trials.value(drawn, trial)
    except PrunedError:
        state = states.PRUNED
    except NotImplementedError:
        raise
    except _FAILURES as error:
        state = states.FAIL
        trial.set_user_attr(MESSAGE, f"{type(error).__name__}: {error}")
    trial.set_user_attr(SECONDS, time.monotonic() - started)
    study.tell(trial, value, state=state)
    return None


def _same(study: "Study", drawn: Drawn) -> "Iterator[FrozenTrial]":
    """Yield the trials of the same parameters that were run."""
    return (trial for trial in counted_trials(study) if trial.params == drawn and REPEATS not in trial.user_attrs)


def _repeat(study: "Study", trial: "Trial", earlier: "FrozenTrial") -> None:
    """End a trial as the earlier one of its parameters ended."""
    states = needed_optuna().trial.TrialState
    notes: dict[str, Any] = {REPEATS: earlier.number, SECONDS: 0.0}
    if MESSAGE in earlier.user_attrs:
        notes[MESSAGE] = earlier.user_attrs[MESSAGE]
    for name, note in notes.items():
        trial.set_user_attr(name, note)
    for step, value in earlier.intermediate_values.items():
        trial.report(value, step)
    study.tell(trial, earlier.value if earlier.state == states.COMPLETE else None, state=earlier.state)


def _note(study: "Study") -> str:
    return f"best {best_trial(study).value:.4g}" if _scored(study) else ""
