"""`tune` chooses the parameters of a Repurposer by trials on labelled data, and trains the one that it chose."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from model_handler.network.ambient_modes import undisturbed
from repurpose.data.folds import N_FOLDS
from repurpose.data.labelled_data import with_labels
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.parameters import is_positive, is_whole
from repurpose.repurposer import Repurposer
from repurpose.seeding import RandomState, draw_seed
from repurpose.selection.results.paired import selection_folds
from repurpose.selection.tuning.description import describe_tuning
from repurpose.selection.tuning.outcome import trials_table
from repurpose.selection.tuning.pruners import chosen_pruner
from repurpose.selection.tuning.result import TuningResult
from repurpose.selection.tuning.scoring import name_of_scoring, scorer_of
from repurpose.selection.tuning.search import best_trial, search
from repurpose.selection.tuning.space import Space, judged_space, with_parameters
from repurpose.selection.tuning.study import begin_study, kept_seed, needed_optuna, open_storage, quiet
from repurpose.selection.tuning.trials import Trials, trials_on
from repurpose.selection.tuning.tuned_data import TunedData, tuned_data

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.study import Study

__all__ = ["tune"]

_OUTER = 1  # tells the seeds of outer folds from those of trials


@undisturbed()
def tune(
    repurposer: Repurposer,
    data: object,
    y: object = None,
    *,
    space: Mapping[str, object],
    budget: int | None,
    seconds: float | None = None,
    scoring: str | Callable = "neg_log_loss",
    groups: ArrayLike | None = None,
    nested: int | None = None,
    pruner: "str | BasePruner | None" = "median",
    study_file: str | PathLike | None = None,
    random_state: RandomState = None,
) -> TuningResult:
    """Choose parameters of a Repurposer by trials on labelled data, and train it with them on all of the data.

    Trials are drawn by Optuna (``pip install optuna``). Of a head, such as `LrRepurposer`, each is scored by five
    folds, on features that one pass of the network computes for all of them, in every pooling and layer that the space
    names. Of a network, such as `NeuralNetworkFineTuneRepurposer`, each is one training, scored on a fifth of each
    class, and ended early where its log loss there falls behind. Folds and that fifth are the same for all trials, and
    a trial of parameters that were tried already is not run again.

    Parameters
    ----------
    repurposer : Repurposer
        With the parameters that are not tuned. It stays as it is.
    data, y : as in `repurpose`
        For a network, data whose rows can be taken by number, and so no DataLoader.
    space : dict of parameter to values
        ``(low, high)``, whole numbers where both are; ``(low, high, "log")``, drawn on a logarithmic scale; a list of
        choices; or a distribution of Optuna's. Any parameter of the class, and of one that is a dict an entry:
        ``"optimizer_params__learning_rate"``. For what the features are computed with (`precision`, `transform`,
        `batch_size` and the like) the network runs once for each value.
    budget : int or None
        The number of trials in all, those in `study_file` counted. None: as many as begin within `seconds`.
    seconds : float, optional
        After which no trial begins any more, in this call and in each study: the search itself, and that of each outer
        fold. One trial is always run.
    scoring : str or callable, default="neg_log_loss"
        A scorer of scikit-learn's by name, or ``scorer(repurposer, X, y)``; the larger, the better. Minus the log loss
        in nats bears labels that lack a class.
    groups : array-like of shape (n_rows,), optional
        Rows that are held out together or not at all, such as those of one patient.
    nested : int, optional
        How many of five outer folds, from 2 to 5, are held out in turn from a tuning of its own, with the same budget:
        `outer_score` is the mean score on them, an honest one. It takes as many times as long again.
    pruner : "median", "halving", one of Optuna's or None, default="median"
        How trainings of networks are ended early; None ends none.
    study_file : str or path, optional
        A journal of all trials. The same call, also after the process was killed, goes on with what is there, until the
        budget is spent. One process at a time; on another machine the file is as good, where its features are.
    random_state : int, RandomState instance or None, default=None
        Where trials, folds and, unless the Repurposer has an integer of its own, trainings draw from. The same integer
        gives the same result, bit for bit on one CPU, also where the study was interrupted in between (with
        ``pruner="halving"``, which counts interrupted trials too, or with `seconds`, that is not promised). With None,
        a study in a file goes on with the seed that it has.

    Returns
    -------
    TuningResult

    Raises
    ------
    ImportError
        Without Optuna.
    TypeError, ValueError
        Before anything runs, for parameters that the class does not have, impossible ranges, empty lists, and a study
        file of another tuning, with all that differs; and where no trial gave a score, with the first reason. A trial
        whose training raises ValueError is one that failed, and its message is in the table.
    CorruptFileError
        If `study_file` is no journal.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> from repurpose.selection import tune
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> X, y = make_blobs(40, cluster_std=4.0, random_state=8)
    >>> space = {"c": (1e-3, 10.0, "log"), "feature_layer_names": [["0"], ["1"]]}
    >>> result = tune(LrRepurposer(network), (X, y), space=space, budget=5, random_state=0)
    >>> len(result.trials), sorted(result.best_parameters), result.best_repurposer.predict_label(X).shape
    (5, ['c', 'feature_layer_names'], (40,))
    """
    needed_optuna()
    _check(repurposer, budget, seconds, nested)
    judged, scorer, pruning = judged_space(space, repurposer), scorer_of(scoring), chosen_pruner(pruner)
    _refuse_blind_stopping(repurposer, judged)
    with ExitStack() as opened:
        opened.enter_context(quiet())
        storage = opened.enter_context(open_storage(study_file))
        seed = _seed(random_state, storage)
        repurposer = _with_seed(repurposer, seed)
        labelled = with_labels(data, y)
        repurposer._check_has_labels(labelled)
        rows = tuned_data(repurposer, labelled, judged, groups)
        description = describe_tuning(repurposer, labelled, rows, judged, name_of_scoring(scoring), seed)
        tuning = _Tuning(storage, description, pruning, budget, seconds, repurposer.verbose)

        def trials_of(chosen: np.ndarray, own_seed: int) -> Trials:
            return trials_on(chosen, own_seed, repurposer, rows, judged, scorer)

        trials = trials_of(np.arange(len(rows.codes)), seed)
        outer_folds = [] if nested is None else _outer_folds(trials_of, rows, nested, seed)
        study = tuning.search("", trials, seed)
        outer = None if nested is None else np.array([fold.score(tuning, rows) for fold in outer_folds])
        best = best_trial(study)
        parameters = judged.parameters(best.params)
        chosen = with_parameters(repurposer, parameters)
        rows.fit_all(chosen, best.params)
        return TuningResult(
            best_repurposer=chosen,
            best_parameters=parameters,
            best_value=best.values[0],
            trials=trials_table(study),
            scoring=name_of_scoring(scoring),
            outer_score=None if outer is None else float(outer.mean()),
            outer_error=None if outer is None else float(outer.std(ddof=1) / np.sqrt(len(outer))),
            outer_scores=outer,
            study=study,
        )


@dataclass(frozen=True, eq=False)
class _Tuning:
    """How each study of a tuning is begun, or gone on with, and brought to its end."""

    storage: "BaseStorage"
    description: Mapping[str, str]
    pruner: "BasePruner"
    budget: int | None
    seconds: float | None
    verbose: bool | None

    def search(self, name: str, trials: Trials, seed: int) -> "Study":
        study = begin_study(self.storage, name, self.description, self.pruner)
        search(study, trials, budget=self.budget, seconds=self.seconds, seed=seed, verbose=self.verbose)
        return study


@dataclass(frozen=True, eq=False)
class _OuterFold:
    """Rows that are held out, (n_held_out,), and the trials without them."""

    number: int
    seed: int
    held_out: np.ndarray
    trials: Trials

    def score(self, tuning: _Tuning, data: TunedData) -> float:
        """Return the score, on the rows held out, of what a tuning without them chooses."""
        best = best_trial(tuning.search(f"without outer fold {self.number}", self.trials, self.seed))
        chosen = self.trials.fitted(best.params)
        return data.score(self.trials.scorer, chosen, best.params, self.held_out)


def _outer_folds(
    trials_of: Callable[[np.ndarray, int], Trials], data: TunedData, nested: int, seed: int
) -> list[_OuterFold]:
    """Deal the outer folds. Raises ValueError for fewer than asked for, or where what one leaves makes no folds."""
    folds, outer = selection_folds(data.codes, np.random.RandomState(seed), data.groups), []
    if (n_folds := int(folds.max()) + 1) < nested:
        fix = f"give nested={n_folds}" if n_folds > 1 else "leave nested out"
        raise ValueError(
            f"nested={nested} needs as many rows (or groups) of a class, not {n_folds}: {fix}, or more rows"
        )
    for number in range(nested):
        own_seed = int(np.random.SeedSequence([seed, number, _OUTER]).generate_state(1)[0])
        try:
            trials = trials_of(np.flatnonzero(folds != number), own_seed)
        except ValueError as error:
            raise ValueError(
                f"nested={nested} holds rows out of what an outer fold leaves, and needs three rows (or groups) of a "
                f"class; leave nested out, or give more rows ({error})"
            ) from error
        outer.append(_OuterFold(number, own_seed, np.flatnonzero(folds == number), trials))
    return outer


def _check(repurposer: object, budget: object, seconds: object, nested: int | None) -> None:
    """Raise TypeError or ValueError for what cannot be, before anything is read."""
    if not isinstance(repurposer, Repurposer):
        raise TypeError(f"tune takes a Repurposer, got {type(repurposer).__name__}; such as LrRepurposer(network)")
    repurposer._check_parameters()
    if budget is None and seconds is None:
        raise ValueError("budget is None, and so is seconds; give the number of trials, or the seconds they may take")
    if budget is not None and not is_whole(budget, 1):
        raise ValueError(f"budget must be a number of trials, at least 1, got {budget!r}; seconds= limits the time")
    if seconds is not None and not is_positive(seconds):
        raise ValueError(f"seconds must be a finite number above 0, got {seconds!r}")
    if nested is not None and not (is_whole(nested, 2) and nested <= N_FOLDS):
        raise ValueError(
            f"nested must be how many of {N_FOLDS} outer folds are run, from 2 to {N_FOLDS}, got {nested!r}"
        )


def _refuse_blind_stopping(repurposer: Repurposer, space: Space) -> None:
    """Raise ValueError where the training on all rows is to stop early, and would have nothing to judge by."""
    if not isinstance(repurposer, NeuralNetworkRepurposer) or repurposer.validation_fraction:
        return
    if repurposer.early_stopping is not None or "early_stopping" in space:
        raise ValueError(
            "early_stopping needs rows to judge by: trials have theirs, and for the training on all rows in the end "
            "give the Repurposer a validation_fraction=0.1"
        )


def _seed(random_state: RandomState, storage: "BaseStorage") -> int:
    """Return the seed of all that is drawn: a given integer itself, or that of the study that is there already."""
    if isinstance(random_state, Integral):
        check_random_state(random_state)
        return int(random_state)
    kept = kept_seed(storage) if random_state is None else None
    return draw_seed(random_state) if kept is None else kept


def _with_seed(repurposer: Repurposer, seed: int) -> Repurposer:
    """Return a copy whose trainings draw from an integer: its own, or this one."""
    own = repurposer.random_state
    return with_parameters(repurposer, {"random_state": own if isinstance(own, Integral) else seed})
