"""An honest score of choosing: the choice is made anew without each fold, and judged on the fold."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from model_handler import Features
from repurpose.meta_model import GpRepurposer
from repurpose.meta_model.outliers import without_outliers
from repurpose.selection.ranking.gp_loss import gp_losses
from repurpose.selection.ranking.task import Task
from repurpose.uncertainty.metrics import log_losses

__all__ = ["ChoiceOfFold", "Nest"]


@dataclass(frozen=True, eq=False)
class ChoiceOfFold:
    """What was chosen of one candidate without a fold.

    Attributes
    ----------
    layer, pooling : str
    inner : float
        Its mean log loss (nats) within the other folds, by which it was chosen.
    losses : ndarray of shape (n_held_out,)
        The log losses (nats) of the fold, by a Gaussian process trained on the other folds.
    """

    layer: str
    pooling: str
    inner: float
    losses: np.ndarray


@dataclass(frozen=True, eq=False)
class Nest:
    """The outer folds of a task, with the task of what each leaves: the same for all candidates."""

    task: Task
    inner: list[tuple[np.ndarray, np.ndarray, Task]]  # rows to train on, rows held out, the task of the former
    seed: int

    @classmethod
    def of(cls, task: Task, seed: int) -> "Nest":
        """Deal out the rows that each fold leaves. Raises ValueError where of these none could be left out."""
        random_state, inner = np.random.RandomState(seed), []
        for fold in range(task.folds.max() + 1):
            training, held_out = np.flatnonzero(task.folds != fold), np.flatnonzero(task.folds == fold)
            try:
                inner.append((training, held_out, task.part(training, random_state)))
            except ValueError as error:
                raise ValueError(
                    "nested=True leaves out rows of what a fold leaves, and needs three labelled rows (or groups) of a "
                    f"class; leave nested out, or give more rows ({error})"
                ) from error
        return cls(task, inner, seed)

    def choose(self, layers: dict[tuple[str, str], np.ndarray]) -> list[ChoiceOfFold]:
        """Choose among a candidate's layers without each fold in turn.

        `layers` are raw features (n_rows, n_features) in the order of the task, by layer and pooling, with outliers:
        which rows those are is found anew without each fold, whose own rows stay as they came.
        """
        return [self._choice(layers, *of_fold) for of_fold in self.inner]

    def held_out_rows(self) -> np.ndarray:
        """Return the rows of the task in the order of the folds that hold them out."""
        return np.concatenate([held_out for _, held_out, _ in self.inner])

    def _choice(
        self, layers: dict[tuple[str, str], np.ndarray], training: np.ndarray, held_out: np.ndarray, within: Task
    ) -> ChoiceOfFold:
        codes, name = self.task.codes, "features"
        learned = {key: without_outliers(rows[training], codes[training]) for key, rows in layers.items()}
        inner = {key: float(np.nanmean(gp_losses(rows, within))) for key, rows in learned.items()}
        best = min(inner, key=inner.__getitem__)
        gp = GpRepurposer(nn.Identity(), [name], random_state=self.seed)
        gp.repurpose(Features({name: learned[best]}, codes[training]), groups=within.groups)
        probabilities = gp.predict_probability(Features({name: layers[best][held_out]}))
        return ChoiceOfFold(*best, inner[best], log_losses(probabilities, codes[held_out]))
