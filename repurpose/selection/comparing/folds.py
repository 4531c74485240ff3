"""One method on all folds: how well it predicts the rows that were held out, and how long it takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from model_handler import Features
from repurpose.data.groups import groups_option
from repurpose.data.row_subsets import labelled_rows
from repurpose.neural_network import NeuralNetworkRepurposer
from repurpose.neural_network.preparation_steps import usual_epochs
from repurpose.repurposer import Repurposer
from repurpose.selection.comparing.budget import FORWARDS_A_STEP, Budget, NotRun, StepWatch
from repurpose.selection.comparing.methods import Head, Network
from repurpose.uncertainty.metrics import log_losses

__all__ = ["Answers", "Task", "n_steps_of", "of_head", "of_network"]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method said of the rows that were held out.

    Attributes
    ----------
    losses : ndarray of shape (n_held_out,)
        In nats.
    is_right : bool ndarray of shape (n_held_out,)
    train_seconds : float
        Of one fold, on average.
    predict_seconds : float
        Of all rows that were held out.
    """

    losses: np.ndarray
    is_right: np.ndarray
    train_seconds: float
    predict_seconds: float


@dataclass(frozen=True, eq=False)
class Task:
    """Labelled data, what was extracted of them, and the folds, the same for all methods.

    Attributes
    ----------
    source : nn.Module, Source or str
    data : labelled data of any kind whose rows have numbers
    classes, codes : ndarray of shape (n_classes,), (n_samples,)
    folds : ndarray of shape (n_samples,)
        The fold that holds a row out, -1 for never.
    groups : ndarray of shape (n_samples,) or None
    seed : int
    options, training : dict
        Parameters of all Repurposers, and of those alone that train a network.
    """

    source: Any
    data: object
    classes: np.ndarray
    codes: np.ndarray
    folds: np.ndarray
    groups: np.ndarray | None
    seed: int
    options: dict[str, Any]
    training: dict[str, Any]

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return len(np.unique(self.folds[self.folds >= 0]))

    @property
    def held_out(self) -> np.ndarray:
        """The rows that are held out by some fold, (n_held_out,)."""
        return np.flatnonzero(self.folds >= 0)

    def splits(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the rows to train on and those held out, fold by fold."""
        for fold in np.unique(self.folds[self.folds >= 0]):
            yield np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)

    def data_of(self, rows: np.ndarray) -> Any:
        """Take labelled rows of the data."""
        return labelled_rows(self.data, rows)


def of_head(task: Task, head: Head, features: Features, a_row: float, budget: Budget) -> Answers:
    """Judge a head on features, one row of which took `a_row` seconds to extract. Raises NotRun where it cannot end."""

    def trained(number: int, rows: np.ndarray) -> Repurposer:
        repurposer = head.make(task.source, features.layer_names, random_state=task.seed, **task.options)
        return repurposer.repurpose(features[rows], **groups_option(task.groups, rows))

    return _of_folds(task, trained, lambda rows: features[rows], a_row, budget)


def of_network(task: Task, network: Network, layer: str, a_row: float, budget: Budget) -> Answers:
    """Judge a trained network; a forward pass of one row takes `a_row` seconds. Raises NotRun where it cannot end."""

    def trained(number: int, rows: np.ndarray) -> Repurposer:
        repurposer = network.make(task.source, layer, random_state=task.seed, **{**task.options, **task.training})
        watch = StepWatch(budget, n_steps_of(repurposer, len(rows)), task.n_folds)
        if number == 0:
            repurposer.callbacks = [*repurposer.callbacks, watch]
        repurposer.repurpose(task.data_of(rows), **groups_option(task.groups, rows))
        if watch.needed:
            raise NotRun(watch.needed)
        return repurposer

    untrained = network.make(task.source, layer, **{**task.options, **task.training})
    rough = FORWARDS_A_STEP * a_row * n_steps_of(untrained, len(task.codes)) * untrained.batch_size * task.n_folds
    budget.refuse_more_than_left(0.0, rough)  # with nothing left, not even a few steps are taken
    return _of_folds(task, trained, task.data_of, 0.0, budget)


def n_steps_of(repurposer: NeuralNetworkRepurposer, n_rows: int) -> int:
    """Return how many steps the optimiser takes in a training on so many rows that is not ended early."""
    an_epoch = ceil(ceil(n_rows / repurposer.batch_size) / repurposer.accumulation)
    return an_epoch * (usual_epochs(an_epoch) if repurposer.num_epochs is None else repurposer.num_epochs)


def _of_folds(
    task: Task,
    trained: Callable[[int, np.ndarray], Repurposer],
    data_of: Callable[[np.ndarray], Any],
    a_row: float,
    budget: Budget,
) -> Answers:
    """Train and judge by each fold; `trained` gets its number and the rows to learn from."""
    probabilities = np.zeros((len(task.codes), len(task.classes)))
    train_seconds = predict_seconds = 0.0
    for number, (learned, held_out) in enumerate(task.splits()):
        start = budget.clock()
        repurposer = trained(number, learned)
        between = budget.clock()
        probabilities[held_out] = repurposer.predict_probability(data_of(held_out))  # no fold holds out a whole class
        end = budget.clock()
        train_seconds += between - start + a_row * len(learned)
        predict_seconds += end - between + a_row * len(held_out)
        if number == 0:
            budget.refuse_more_than_left((end - start) * (task.n_folds - 1), (end - start) * task.n_folds)
    probabilities, codes = probabilities[task.held_out], task.codes[task.held_out]
    is_right = probabilities.argmax(axis=1) == codes
    return Answers(log_losses(probabilities, codes), is_right, train_seconds / task.n_folds, predict_seconds)
