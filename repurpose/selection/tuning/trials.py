"""What a trial is worth: the mean score over five folds for a head, that of one held-out share for a network.

All trials of a study have the same folds, or the same share, so that they differ by their parameters alone. The
training of a network is ended early where the trials before it were better after as many epochs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.repurposer import Repurposer
from repurpose.selection.results.paired import selection_folds
from repurpose.selection.tuning.scoring import Scorer
from repurpose.selection.tuning.space import Drawn, Space, with_parameters
from repurpose.selection.tuning.tuned_data import TunedData
from repurpose.training.callbacks import Callback
from repurpose.training.state import TrainingState

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["PrunedError", "Trials", "trials_on"]


class PrunedError(Exception):
    """A trial that was ended early."""


class Trials(ABC):
    """How parameters are judged on some `rows` (n_chosen,) of the data."""

    def __init__(
        self, repurposer: Repurposer, data: TunedData, space: Space, scorer: Scorer, rows: np.ndarray, seed: int
    ) -> None:
        self.repurposer, self.data, self.space, self.scorer, self.rows = repurposer, data, space, scorer, rows
        rng, groups = np.random.RandomState(seed), None if data.groups is None else data.groups[rows]
        self.folds = selection_folds(data.codes[rows], rng, groups)

    @abstractmethod
    def value(self, drawn: Drawn, trial: "Trial") -> float:
        """Return the score of these parameters. Raises PrunedError, and what training raises."""

    def fitted(self, drawn: Drawn) -> Repurposer:
        """Return a Repurposer of these parameters that was trained on all of the rows."""
        repurposer = self._new(drawn)
        self.data.fit(repurposer, drawn, self.rows)
        return repurposer

    def _new(self, drawn: Drawn) -> Repurposer:
        """Return an untrained Repurposer of these parameters, which shows nothing and writes nothing down."""
        quiet = {"verbose": False, "checkpoint_dir": None}
        own = {name: value for name, value in quiet.items() if hasattr(self.repurposer, name)}
        return with_parameters(self.repurposer, {**own, **self.space.parameters(drawn)})

    def _score(self, repurposer: Repurposer, drawn: Drawn, fold: int) -> float:
        score = self.data.score(self.scorer, repurposer, drawn, self.rows[self.folds == fold])
        if not np.isfinite(score):
            raise ValueError(f"the score is {score}")
        return score


def trials_on(
    rows: np.ndarray, seed: int, repurposer: Repurposer, data: TunedData, space: Space, scorer: Scorer
) -> Trials:
    """Return how a Repurposer's parameters are judged on some rows; folds are dealt by the seed.

    Raises ValueError where no class has two examples.
    """
    kind = _OfHeads if isinstance(repurposer, MetaModelRepurposer) else _OfNetworks
    return kind(repurposer, data, space, scorer, rows, seed)


class _OfHeads(Trials):
    def value(self, drawn: Drawn, trial: "Trial") -> float:
        scores = []
        for fold in np.unique(self.folds[self.folds >= 0]):
            repurposer = self._new(drawn)
            self.data.fit(repurposer, drawn, self.rows[self.folds != fold])
            scores.append(self._score(repurposer, drawn, fold))
        return float(np.mean(scores))


class _OfNetworks(Trials):
    """Networks, judged on the rows of the first fold, by whose log loss their trainings are pruned."""

    def value(self, drawn: Drawn, trial: "Trial") -> float:
        repurposer = cast(NeuralNetworkRepurposer, self._new(drawn))
        pruning = _Pruning(trial)
        callbacks: list[Callable[..., Any]] = [*repurposer.callbacks, pruning]
        repurposer.callbacks, repurposer.validation_fraction = callbacks, 0.0
        held_out = self.data.take(drawn, self.rows[self.folds == 0])
        self.data.fit(repurposer, drawn, self.rows[self.folds != 0], validation_data=held_out)
        if pruning.pruned:
            raise PrunedError
        return self._score(repurposer, drawn, 0)


class _Pruning(Callback):
    """Tells Optuna the validation loss after each epoch, and ends the training that it prunes.

    Of an ensemble, the first member speaks for all.
    """

    def __init__(self, trial: "Trial") -> None:
        self._trial, self._n_begun = trial, 0
        self.pruned = False

    def begin(self, state: TrainingState) -> None:
        self._n_begun += 1

    def __call__(self, state: TrainingState, record: Mapping[str, Any]) -> bool:
        if self._n_begun == 1 and not self.pruned:
            self._trial.report(-record["validation_loss"], record["epoch"])
            self.pruned = self._trial.should_prune()
        return self.pruned
