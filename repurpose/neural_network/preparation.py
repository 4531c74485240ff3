"""Preparing a training: all that it needs in one `Task`, and questions about it that are answered without training."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state
from torch import Tensor, nn

from model_handler.data import unmoved_generators
from repurpose.data.inputs import Inputs
from repurpose.neural_network.architecture import as_spec
from repurpose.neural_network.preparation_steps import (
    class_weights,
    count_outputs,
    plan_of,
    read_training_data,
    split_validation,
)
from repurpose.neural_network.trained_network import TrainedNetwork
from repurpose.neural_network.training_parameters import TrainingParameters
from repurpose.seeding import draw_seed
from repurpose.training.data.augmentation import chosen_augmentation
from repurpose.training.data.batches import BatchSource
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from repurpose.training.finder import RateSearch, find_learning_rate
from repurpose.training.plan.groups import GroupTable, make_groups
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.losses import make_mixing
from repurpose.training.steps.objective import ClassificationObjective, Objective
from repurpose.training.task import Task
from repurpose.training.validation import EpochEvaluation, Validation

__all__ = ["PreparesTraining"]

T = TypeVar("T")


class PreparesTraining(TrainedNetwork, TrainingParameters):
    """Base of `NeuralNetworkRepurposer`, whose parameters and hooks it reads."""

    class_weight: Mapping[Any, float] | str | None
    augmentation: Callable | str | None

    def parameter_groups(self, data: object = None, y: object = None) -> GroupTable:
        """Return which parameters learn how fast: of the trained network, or of the one that `data` would make.

        Nothing is trained, and nothing here changes; of `data`, as in `repurpose`, labels and two rows are read.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import NeuralNetworkFineTuneRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", learning_rates={"new": 1e-2, "0": 0})
        >>> print(repurposer.parameter_groups(make_blobs(30, random_state=8)))
        group     learning rate  weight decay  from epoch  parameters  numbers  first
        new       0.01           0.01          0           1           24       head.weight
        new       0.01           0             0           1           3        head.bias
        (frozen)                                           2           24       0.weight
        """
        if data is None:
            self._check_is_repurposed()
            return self.parameter_groups_
        return self._try_out(lambda task: task.groups, data, y)

    def find_learning_rate(
        self, data: object, y: object = None, *, lowest: float = 1e-6, highest: float = 1.0, n_steps: int = 100
    ) -> RateSearch:
        """Take some steps at ever higher learning rates, and suggest one; the Repurposer and all generators stay.

        The rates are those of the fastest group; all others keep their distance to it. Schedules, late beginnings,
        averages and callbacks are left out. ``plot()`` of the result draws the losses.

        Parameters
        ----------
        data, y : as in `repurpose`
        lowest, highest : float
            The rates to begin and to end with.
        n_steps : int, default=100
            The number of steps; fewer are taken where the loss diverges.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import NeuralNetworkFineTuneRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1")
        >>> search = repurposer.find_learning_rate(make_blobs(30), lowest=1e-4, highest=0.1, n_steps=20)
        >>> f"{search.rates[0]:g} to {search.rates[-1]:g}"
        '0.0001 to 0.1'
        """

        def search(task: Task) -> RateSearch:
            return find_learning_rate(task, lowest=lowest, highest=highest, n_steps=n_steps)

        return self._try_out(search, data, y)

    def _prepare_task(
        self,
        data: object,
        validation_data: object = None,
        *,
        seed: int | None = None,
        member: int = 0,
        groups: np.ndarray | None = None,
    ) -> Task:
        """Hook, optional: all that a training needs.

        Sets `classes_`, `class_counts_`, `example_inputs_` and `n_features_in_`.

        A method that trains on more than labelled rows, by more than a loss of them, or judges its epochs otherwise
        takes what this gives and puts an object of its own in the place of its `batches`, `objective`, `evaluation` or
        `saved`: ``dataclasses.replace(super()._prepare_task(...), objective=...)``. What its `repurpose` takes beside
        the data, such as `source_data`, it hands to `_learn` by name, which hands it on to this. So that
        `fit`, `parameter_groups` and `find_learning_rate` take it too, it overrides them, the two last by `_try_out`.

        `seed` is where all random numbers come from; by default it is drawn from `random_state`. Members of an ensemble
        share the rows to train on and to validate by; all else that is random differs between them. `groups` (n_rows,)
        are given where rows belong together, of which some may be held out.
        """
        name, reading = type(self).__name__, self._reading()
        seed = draw_seed(self.random_state) if seed is None else seed
        own_seed = seed_of(seed, SeedPurpose.ENSEMBLE_MEMBER, member) if member else seed
        training = read_training_data(data, reading, seed, name)
        self._note_rows(training.classes, training.codes, training.seen.example)
        module, n_outputs = self._new_network(training.seen.example, own_seed)
        self._class_weights = class_weights(self.class_weight, training.classes, training.codes, n_outputs)
        learned, held_out = split_validation(
            training,
            validation_data,
            self.validation_fraction,
            reading=reading,
            seed=seed,
            judge=partial(self._count_outputs, module),
            groups=groups,
        )
        augment = chosen_augmentation(self.augmentation, training.seen.example)
        batches = learned.batches(self.classes_, own_seed, reading, augment=augment)
        plan = plan_of(self._plan_values(), own_seed, batches.n_batches)
        objective = ClassificationObjective(
            self._training_loss,
            n_outputs,
            self._class_weights,
            looks_inside=self._has_own_loss(),
            mixing=make_mixing(plan, n_outputs),
        )
        evaluation = None
        if held_out is not None:
            judged = held_out.batches(self.classes_, None, reading)
            evaluation = Validation(judged, self._class_weights, self.precision)
        return self._task_of(module, plan, batches, objective, evaluation, training.seen.example)

    def _note_rows(self, classes: np.ndarray, codes: np.ndarray, example: Inputs) -> None:
        """Set what is known of the data: classes, `codes` of its labelled rows (n_labelled,), two rows of inputs."""
        self.classes_, self.example_inputs_ = classes, as_spec(example)
        self.class_counts_ = np.bincount(codes, minlength=len(classes))
        if isinstance(example, Tensor) and example.ndim == 2:
            self.n_features_in_ = example.shape[1]

    def _new_network(self, example: Inputs, seed: int) -> tuple[nn.Module, int]:
        """Make the network to train, what is new in it drawn from `seed`, and count its logits."""
        with drawing_from(seed_of(seed, SeedPurpose.NEW_LAYERS)):
            module = self._create_module(example)
            return module, self._count_outputs(module, example)

    def _task_of(
        self,
        module: nn.Module,
        plan: TrainingPlan,
        batches: BatchSource,
        objective: Objective,
        evaluation: EpochEvaluation | None,
        example: Inputs,
    ) -> Task:
        """Bring together what a training needs, its groups of parameters with it."""
        new, blocks = self._new_parameters(module), self._block_names(example)
        groups = make_groups(module, plan, new, blocks)
        return Task(module, plan, groups, new, batches, objective, evaluation, blocks=blocks)

    def _count_outputs(self, module: nn.Module, example: Inputs) -> int:
        """Count the logits that a network gives a row. Raises ValueError for rows that it cannot take."""
        with self._judged_inputs(example):
            return count_outputs(module, example, self.precision, len(self.classes_), type(self).__name__)

    def _try_out(self, work: Callable[[Task], T], data: object, y: object, **further: Any) -> T:
        """Return what `work` makes of the task that these data give, on a clone, so that nothing here changes.

        `further` is what the method's `_prepare_task` takes beside the data.
        """
        clone, found = self.__sklearn_clone__(), []

        def learn(labelled: object, **given: Any) -> None:
            seed = draw_seed(deepcopy(check_random_state(clone.random_state)))  # numpy's own, too, stays where it is
            found.append(work(clone._prepare_task(labelled, seed=seed, **further, **given)))

        with unmoved_generators(data):
            clone._learn_by(learn, data, y)
        return found[0]

    def _training_loss(self, module: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def _has_own_loss(self) -> bool:
        raise NotImplementedError
