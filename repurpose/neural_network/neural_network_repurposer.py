"""`NeuralNetworkRepurposer`: the base of methods that make a network from the source and train all or a part of it.

Subclasses say which network; how it is trained is in `repurpose.training`, what a training needs is brought together in
`preparation`, and what the trained network predicts is in `trained_network`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from os import PathLike
from typing import Any, Self

from torch import Tensor, nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.network.device import resolve_device
from repurpose.data.class_weights import class_weight_mistakes
from repurpose.data.inputs import Inputs
from repurpose.data.one_domain import without_source_data
from repurpose.data.sample_weights import without_weights
from repurpose.neural_network.architecture import new_parameters
from repurpose.neural_network.ensemble import as_one_network
from repurpose.neural_network.members import open_checkpoints, seed_of_training
from repurpose.neural_network.preparation import PreparesTraining
from repurpose.parameters import is_whole
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.persistence.values.parts import storable
from repurpose.training.checkpoints.checkpoints import checkpoint_mistakes
from repurpose.training.data.augmentation import augmentation_mistakes
from repurpose.training.distributed.data_parallel import distributed_mistakes
from repurpose.training.distributed.fully_sharded import sharding_mistakes
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.starting import started_group
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.groups import GroupTable, ParameterGroup
from repurpose.training.plan.optimizers import OptimizerChoice
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.plan.schedulers import SchedulerChoice
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
    num_epochs : int, optional
        How often training goes through all rows. None: as many times as give 100 steps, from 5 to 50, so that few rows
        are learned too; Xfer's default was 5.
    optimizer : str or class, default="AdamW"
        One of torch.optim.
    optimizer_params : dict, optional
        Its parameters. ``learning_rate`` is the rate of new layers, a tenth of which is that of transferred ones; by
        default the optimiser's own. Weight decay spares biases and normalisation.
    learning_rates : dict, optional
        The rate of each group of layers, ``{"layer4": 1e-4, "new": 1e-2, "*": 1e-5}``: by the name of a layer or a
        container (the longest match decides), by type (``"convolution"``, ``nn.Conv2d``), ``"new"`` for layers that
        are reinitialised, ``"transferred"`` for those that are not, ``"*"`` for all others. A rate of 0 freezes: no
        gradient, no dropout, no change of normalisation's statistics. A layer named here that no gradient reaches in 20
        steps is an error; one that only ``"*"`` and the like mean, and that runs all the same, a UserWarning.
    layer_decay : float, optional
        The factor of each rate for each block further down, such as 0.75; new layers have the full rate. Blocks are
        those of `ModelHandler.blocks`; without such a chain, the modules of several layers whose class repeats.
    decay_all : bool, default=False
        Whether weight decay acts on biases and normalisation too.
    scheduler : str, class, callable or None, default="warmup_cosine"
        How rates change: up over the first tenth of the steps, then down along a half cosine; or a scheduler of
        torch.optim, by name or class, or a function that makes one of an optimiser.
    scheduler_params : dict, optional
        Its parameters; for ``"warmup_cosine"`` the shares ``warmup`` (0.1) and ``final`` (0).
    unfreeze : dict, optional
        The epoch, from 0, in which layers begin to learn, ``{"layer3": 2, "layer2": 4}``; names as in `learning_rates`.
    probe_epochs : int, default=0
        For how many epochs only new layers learn: a linear probe, then fine-tuning.
    validation_fraction : float, default=0.0
        The share of each class that is not learned from, and by which each epoch is judged; or give
        ``repurpose(data, validation_data=...)``.
    early_stopping : int, optional
        After how many epochs without a lower validation loss training ends; the best weights are kept.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes in the loss.
    norm_statistics : "source" or "batch", default="source"
        Which mean and variance BatchNorm normalises by in training: those that it came with, as in prediction, or those
        of each batch, which its running statistics then follow. Its weights learn in either case. New
        normalisation follows the batches. Few rows are no measure of statistics; with many, or for data unlike the
        source's, ``"batch"`` may be better.
    label_smoothing : float, default=0.0
    clip_norm : float, optional
        The largest norm of the gradient of all parameters together.
    accumulation : int, default=1
        How many batches make a step of the optimiser; a last step of fewer counts their rows.
    precision : str, default="float32"
        ``"bfloat16"`` computes convolutions and matrix products in it, in training and prediction.
    ema : float, optional
        The decay of an exponential moving average of the weights, such as 0.999, which is then the network.
    mixup, cutmix : float, default=0.0
        The alpha of torchvision's MixUp and CutMix of images; of both, a coin decides for each batch.
    augmentation : callable, "auto" or None, default=None
        What is done to each training image: to a PIL image before the transform, to a tensor as it is. ``"auto"``
        shifts images by up to an eighth and flips half of them left to right, as suits photographs and not digits.
    l2_sp : float or (float, float), optional
        Alpha and beta of L2-SP: transferred weights are drawn to where they began, new ones to 0, in place of the
        optimiser's default weight decay.
    cache_frozen : "auto", bool or dict, default="auto"
        Whether what frozen layers give is computed once and kept, in memory or past a budget on disk, so that each
        epoch trains the rest alone. ``"auto"`` does where rows are the same every epoch; otherwise frozen layers run
        for each batch without autograd; the log says which. True raises where it cannot be, False trains the network
        whole. A dict has options: ``{"dtype": "bfloat16"}`` keeps half as many digits, ``{"folded": False}`` computes
        as the network would to the last digit, ``memory`` is the budget in bytes, ``directory`` where files go. Of
        several processes each computes its part of the rows and keeps all; with ``distributed="fsdp"`` the network is
        trained whole.
    callbacks : sequence of callable, default=()
        Called with (state, record) after each epoch, or `repurpose.training.callbacks.Callback`; training ends when one
        returns True. `CsvLog` and `TensorBoardLog` write logs.
    checkpoint_dir : str or path, optional
        A directory in which each epoch is written down. The same call after a crash, also in another process, goes on
        from the last epoch there, with the same result, bit for bit on one CPU, as if nothing had happened; after
        training has ended it gives the finished network. Checkpoints of other parameters, data or weights are refused,
        so each training needs a directory of its own.
    distributed : "ddp", "fsdp" or None, default="ddp"
        How several processes train that `torchrun` or `accelerate launch` started: together, on batches of `batch_size`
        rows each, or with None each by itself. All make the same call and get the same network; only the first one
        writes checkpoints, calls callbacks and shows progress. With ``"fsdp"`` each holds a part of the weights while
        it trains.
    sync_norm : bool, default=False
        Whether BatchNorm normalises the rows of all processes together, on GPUs.
    num_members : int, default=1
        How many networks are trained, one after another and each from a seed of its own: a deep ensemble, such as of 5.
        Its probabilities are the mean of theirs, and `predict_uncertainty` knows where they disagree. It takes as many
        times as long to train and to predict, and all have the same rows to be judged by.
    **kwargs
        The parameters of `Repurposer`. A DataLoader has a `batch_size` of its own.

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

    _used_in_training_only: tuple[str, ...] = (
        "optimizer",
        "scheduler",
        "augmentation",
        "callbacks",
        "learning_rates",
        "unfreeze",
        "checkpoint_dir",
    )

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        *,
        num_epochs: int | None = None,
        optimizer: OptimizerChoice = "AdamW",
        optimizer_params: Mapping[str, Any] | None = None,
        learning_rates: Mapping[Any, float] | None = None,
        layer_decay: float | None = None,
        decay_all: bool = False,
        scheduler: SchedulerChoice = "warmup_cosine",
        scheduler_params: Mapping[str, Any] | None = None,
        unfreeze: Mapping[Any, int] | None = None,
        probe_epochs: int = 0,
        validation_fraction: float = 0.0,
        early_stopping: int | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        norm_statistics: str = "source",
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        accumulation: int = 1,
        precision: str = "float32",
        ema: float | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        augmentation: Callable | str | None = None,
        l2_sp: float | tuple[float, float] | None = None,
        cache_frozen: bool | str | Mapping[str, Any] = "auto",
        callbacks: Sequence[Callable] = (),
        checkpoint_dir: str | PathLike | None = None,
        distributed: str | None = "ddp",
        sync_norm: bool = False,
        num_members: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.num_epochs = num_epochs
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.learning_rates = learning_rates
        self.layer_decay = layer_decay
        self.decay_all = decay_all
        self.scheduler = scheduler
        self.scheduler_params = scheduler_params
        self.unfreeze = unfreeze
        self.probe_epochs = probe_epochs
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.class_weight = class_weight
        self.norm_statistics = norm_statistics
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        self.precision = precision
        self.ema = ema
        self.mixup = mixup
        self.cutmix = cutmix
        self.augmentation = augmentation
        self.l2_sp = l2_sp
        self.cache_frozen = cache_frozen
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.distributed = distributed
        self.sync_norm = sync_norm
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
    def repurpose(self, data: object, y: object = None, *, validation_data: object = None) -> Self:
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
        return self._learn_by(lambda labelled: self._learn(labelled, validation_data), data, y)

    @without_source_data
    @without_weights
    def fit(self, X: object, y: object = None, *, validation_data: object = None) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, validation_data=validation_data)

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
            if task.evaluation is None and self.early_stopping is not None:
                needs = "early_stopping needs something to judge by: validation_fraction=0.1, or validation_data"
                raise ValueError(needs)
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

    def _new_parameters(self, module: nn.Module) -> set[str]:
        """Hook, optional: the names of new parameters, which do not hold what the source has under that name."""
        return new_parameters(module, self._source_network())

    def _block_names(self, example_inputs: Inputs) -> tuple[str, ...]:
        """Return the names of the source's blocks where rates decay by them; none where it has no chain of blocks."""
        if self.layer_decay is None:
            return ()
        try:
            return tuple(block.name for block in self._handler_for(example_inputs).blocks)
        except ModelError:
            return ()

    def _handler_for(self, example_inputs: Inputs) -> ModelHandler:
        """Make a handler on the source network, to be edited into the target module."""
        return ModelHandler(
            self._open_source(),
            example_inputs,
            transform=self.transform,
            device=self.device,
            batch_size=self.batch_size,
        )

    def _has_own_loss(self) -> bool:
        """Return whether a subclass defines the loss, which may then look into the network."""
        return type(self)._training_loss is not NeuralNetworkRepurposer._training_loss

    def _parameter_mistakes(self) -> list[str]:
        values = {**self._plan_values(), "seed": 0}
        if self.num_epochs is None:
            values["num_epochs"] = sys.maxsize  # chosen so that all that is to begin begins
        mistakes = super()._parameter_mistakes()
        if isinstance(self.callbacks, Sequence) and not isinstance(self.callbacks, str):
            mistakes += TrainingPlan(**{**values, "callbacks": tuple(self.callbacks)}).mistakes()
        else:
            mistakes.append(f"callbacks must be a list, got {self.callbacks!r}")
        if not is_whole(self.num_members, 1):
            mistakes.append(f"num_members must be a whole number of at least 1, got {self.num_members!r}")
        share = self.validation_fraction
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share < 1:
            mistakes.append(f"validation_fraction must be a share from 0 to below 1, got {share!r}")
        return (
            mistakes
            + class_weight_mistakes(self.class_weight)
            + [
                *augmentation_mistakes(self.augmentation),
                *checkpoint_mistakes(self.checkpoint_dir),
                *distributed_mistakes(self.distributed, self.sync_norm),
                *(sharding_mistakes(vars(self)) if self.distributed == "fsdp" else []),
            ]
        )
