"""`NeuralNetworkRepurposer`: the base of methods that make a network from the source and train all or a part of it.

Subclasses say which network; how it is trained is in `repurpose.training`, what a training needs is brought together in
`preparation`, and what the trained network predicts is in `trained_network`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from numpy.typing import ArrayLike
from torch import Tensor, nn

from model_handler import Source
from model_handler.network.device import resolve_device
from repurpose.data.class_weights import class_weight_mistakes
from repurpose.data.inputs import Inputs
from repurpose.data.one_domain import without_source_data
from repurpose.data.sample_weights import without_weights
from repurpose.neural_network.ensemble import as_one_network
from repurpose.neural_network.members import open_checkpoints, seed_of_training
from repurpose.neural_network.preparation import PreparesTraining
from repurpose.parameters import is_whole, only_given
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.persistence.values.parts import storable
from repurpose.training.data.augmentation import augmentation_mistakes
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.starting import started_group
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.groups import GroupTable, ParameterGroup
from repurpose.training.steps.forward import call, logits_of
from repurpose.training.steps.losses import cross_entropy
from repurpose.training.task import Task

__all__ = ["NeuralNetworkRepurposer"]


for part in (History, GroupTable, ParameterGroup):
    storable(part)


class NeuralNetworkRepurposer(PreparesTraining):
    """Base of the methods that train a network. A subclass defines `_create_target_module`; all else is inherited.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes in the loss.
    label_smoothing : float, default=0.0
    mixup, cutmix : float, default=0.0
        The alpha of torchvision's MixUp and CutMix of images; of both, a coin decides for each batch.
    augmentation : callable, "auto" or None, default=None
        What is done to each training image: to a PIL image before the transform, to a tensor as it is. ``"auto"``
        shifts images by up to an eighth and flips half of them left to right, as suits photographs and not digits.
    num_members : int, default=1
        How many networks are trained, one after another and each from a seed of its own: a deep ensemble, such as of 5.
        Its probabilities are the mean of theirs, and `predict_uncertainty` knows where they disagree. It takes as many
        times as long to train and to predict, and all have the same rows to be judged by.
    **kwargs
        The parameters of `repurpose.neural_network.training_parameters.TrainingParameters` and `Repurposer`. A
        DataLoader has a `batch_size` of its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels seen in training, sorted.
    class_counts_ : ndarray of shape (n_classes,)
        How many rows of each class the data had.
    target_model_ : nn.Module
        The trained network, in evaluation mode; of an ensemble, one whose `members` are the networks.
    history_ : History
        What was measured after each epoch; ``history_.plot()`` draws the learning curve.
    member_histories_ : list of History
        The history of each member of an ensemble; `history_` is that of the first.
    parameter_groups_ : GroupTable
        Which parameters learned how fast.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> from repurpose import NeuralNetworkRepurposer
    >>> class DeeperRepurposer(NeuralNetworkRepurposer):
    ...     def _create_target_module(self, example_inputs):
    ...         handler = ModelHandler(self.source_model, example_inputs).drop_layer_top()
    ...         head = [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, len(self.classes_))]
    ...         return handler.add_layer_top(head).get_module()
    ...
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DeeperRepurposer(network, num_epochs=3).repurpose((X, y))
    >>> len(repurposer.history_), repurposer.predict_probability(X).shape
    (3, (30, 3))
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        *,
        class_weight: Mapping[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        augmentation: Callable | str | None = None,
        num_members: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.cutmix = cutmix
        self.augmentation = augmentation
        self.num_members = num_members

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        """Hook: the network to train, with weights of its own; `ModelHandler.get_module` hands out such.

        `example_inputs` are up to two rows as the network will get them; `classes_` is set already. The network returns
        a logit for each class, and may return more. It is made again, and filled, when a saved repurposer is loaded.
        Modules that only the loss uses are parts of it, or attributes of this object whose names end in an underscore:
        they are trained and saved with it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _create_target_module")

    def _training_loss(self, module: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """Hook, optional: what training makes small, a mean over the rows; by default the cross-entropy.

        `inputs` are what the network takes, a tensor, or a tuple or dict of them; `targets` codes of shape (n_rows,),
        or with `mixup` and `cutmix` shares of shape (n_rows, n_outputs).
        """
        return cross_entropy(logits_of(call(module, inputs)), targets, self._class_weights, self.label_smoothing)

    @without_source_data
    @without_weights
    def repurpose(
        self,
        data: object,
        y: object = None,
        *,
        validation_data: object = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn the task that labelled data show; an earlier result stays as it was if this fails.

        Parameters
        ----------
        data : DataLoader, Dataset, pair of arrays or tensors, ImageFolderData or path of a folder
            Inputs with one label each; without labels where `y` gives them. A DataLoader keeps its batches and its
            order, all else is shuffled anew each epoch.
        y : array-like of shape (n_samples,), optional
            Labels beside an array or a list.
        validation_data : as `data`, optional
            Labelled data, not learned from, by which each epoch is judged.
        groups : array-like of shape (n_samples,), optional
            Which rows belong together, such as those of a patient, a camera or near-duplicates: labels of any kind, in
            the order of the data. The rows that `validation_fraction` holds out are whole groups.

        Raises
        ------
        TypeError, ValueError
            For parameters, data or labels that cannot be used; every mistake among the parameters is listed.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import NeuralNetworkFineTuneRepurposer
        >>> X, y = make_blobs(60, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=3)
        >>> repurposer = repurposer.repurpose((X[:40], y[:40]), validation_data=(X[40:], y[40:]))
        >>> len(repurposer.history_.values("validation_loss"))
        3
        """
        return self._learn_by(
            lambda labelled, **given: self._learn(labelled, validation_data, **given), data, y, groups
        )

    @without_source_data
    @without_weights
    def fit(
        self, X: object, y: object = None, *, validation_data: object = None, groups: ArrayLike | None = None
    ) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, validation_data=validation_data, **only_given(groups=groups))

    def _learn(self, data: object, validation_data: object = None, **further: object) -> None:
        """Train the members on the data, in all processes that were started; `further` goes to `_prepare_task`."""
        device = resolve_device(self.device, self._source_network())
        with started_group(self.distributed, device, self.sync_norm) as process_group:
            self._learn_with(process_group, data, validation_data, further)

    def _learn_with(
        self, process_group: ProcessGroup, data: object, validation_data: object, further: Mapping[str, Any]
    ) -> None:
        members, histories, seed = [], [], 0
        for member in range(self.num_members):
            checkpoints = open_checkpoints(self.checkpoint_dir, member, self.num_members, process_group)
            if not member:
                draw = partial(seed_of_training, self.random_state, checkpoints)
                seed = process_group.from_main_process(draw)
            if hasattr(self, "prediction_seed_"):
                self.prediction_seed_ = seed  # that of all processes, and of a training that is resumed
            task = self._prepare_task(data, validation_data, seed=seed, member=member, **further)
            if not isinstance(task, Task):
                raise TypeError(f"{type(self).__name__}._prepare_task must return a Task, got {type(task).__name__}")
            self._refuse_blind_stopping(task)
            histories.append(train(task, checkpoints=checkpoints, process_group=process_group))
            members.append(task.module)
        self.parameter_groups_ = task.groups
        self.history_ = histories[0]
        self.target_model_ = as_one_network(members)
        if self._made_again(self.target_model_):
            self.source_fingerprint_ = fingerprint(self._source_network())
        if self.num_members > 1:
            self.member_histories_ = histories
        self._note_training()

    def _has_own_loss(self) -> bool:
        """Return whether a subclass defines the loss, which may then look into the network."""
        return type(self)._training_loss is not NeuralNetworkRepurposer._training_loss

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_whole(self.num_members, 1):
            mistakes.append(f"num_members must be a whole number of at least 1, got {self.num_members!r}")
        return mistakes + class_weight_mistakes(self.class_weight) + augmentation_mistakes(self.augmentation)
