"""`NeuralNetworkRepurposer`: a network made from the source, trained end to end or in part.

Subclasses say what network; how it is trained is in `repurpose.training`, what a training needs is brought together in
`task`, and what the trained network answers is in `trained_network`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, Self

from sklearn.utils import check_random_state
from torch import Tensor, nn

from model_handler import ModelHandler, Source
from model_handler.data import unmoved_generators
from model_handler.network.replica import resolve_device
from model_handler.processes import teamed
from repurpose.data.class_weights import class_weight_mistakes
from repurpose.data.sample_weights import without_weights
from repurpose.neural_network.architecture import new_parameters
from repurpose.neural_network.ensemble import joined
from repurpose.neural_network.task import Task, prepare_task
from repurpose.neural_network.trained_network import TrainedNetwork
from repurpose.parameters import is_whole
from repurpose.persistence.parts import storable
from repurpose.seeding import draw_seed
from repurpose.source import open_source
from repurpose.training.checkpoints.checkpoints import Checkpoints, checkpoint_mistakes
from repurpose.training.data.augmentation import augmentation_mistakes
from repurpose.training.distributed.data_parallel import Crew, crew_mistakes
from repurpose.training.distributed.fully_sharded import ShardingCrew, sharding_mistakes
from repurpose.training.distributed.single_process import Alone
from repurpose.training.finder import RateSearch, find_learning_rate
from repurpose.training.history import History
from repurpose.training.loop import train
from repurpose.training.plan.groups import GroupTable, ParameterGroup, make_groups
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.forward import call, logits_of
from repurpose.training.steps.losses import cross_entropy

__all__ = ["NeuralNetworkRepurposer", "class_count_mistakes"]


for part in (History, GroupTable, ParameterGroup):
    storable(part)


class NeuralNetworkRepurposer(TrainedNetwork):
    """Base of the methods that train a network. A subclass defines `_create_target_module`; the rest is here.

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
        begin anew, ``"transferred"`` for those that do not, ``"*"`` for all others. A rate of 0 freezes: no gradient,
        no dropout, no change of normalisation's statistics. A layer named here that no gradient reaches in 20 steps is
        an error; one that only ``"*"`` and the like mean, and that runs all the same, a UserWarning.
    layer_decay : float, optional
        By what each rate is multiplied for each block further down, such as 0.75; new layers have the full rate.
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
        of each batch, which its running statistics then follow. Its weights learn in either case. Normalisation that
        begins anew follows the batches. Few rows are no measure of statistics; with many, or for data unlike the
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
    target_model_ : nn.Module
        The trained network, in evaluation mode; of an ensemble, one whose `members` are the networks.
    history_ : History
        What was measured after each epoch; ``history_.plot()`` draws the learning curve.
    member_histories_ : list of History
        Of each member of an ensemble; `history_` is that of the first.
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

    _used_in_training_only = (
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
        optimizer: Any = "AdamW",
        optimizer_params: Mapping[str, Any] | None = None,
        learning_rates: Mapping[Any, float] | None = None,
        layer_decay: float | None = None,
        decay_all: bool = False,
        scheduler: Any = "warmup_cosine",
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
        cache_frozen: Any = "auto",
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

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        """Hook: the network to train, with weights of its own; `ModelHandler.get_module` hands out such.

        `example_inputs` are up to two rows as the network will get them; `classes_` is set already. The network returns
        a logit for each class, and may return more. It is made again, and filled, when a saved repurposer is loaded.
        Modules that only the loss uses are parts of it, or attributes of this object whose names end in an underscore:
        they are trained and saved with it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _create_target_module")

    def _training_loss(self, module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        """Hook, optional: what training makes small, a mean over the rows; by default the cross-entropy.

        `inputs` are what the network takes, a tensor, or a tuple or dict of them; `targets` codes of shape (n_rows,),
        or with `mixup` and `cutmix` shares of shape (n_rows, n_outputs).
        """
        return cross_entropy(logits_of(call(module, inputs)), targets, self._class_weights, self.label_smoothing)

    @without_weights
    def repurpose(self, data: Any, y: Any = None, *, validation_data: Any = None) -> Self:
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

    @without_weights
    def fit(self, X: Any, y: Any = None, *, validation_data: Any = None) -> Self:
        """The same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, validation_data=validation_data)

    def parameter_groups(self, data: Any = None, y: Any = None) -> GroupTable:
        """Which parameters learn how fast: a table of the trained network, or of the one that `data` would make.

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
        return self._try_out(lambda task: make_groups(task.module, task.plan, task.new), data, y)

    def find_learning_rate(
        self, data: Any, y: Any = None, *, lowest: float = 1e-6, highest: float = 1.0, n_steps: int = 100
    ) -> RateSearch:
        """Take some steps at ever higher learning rates, and suggest one; nothing here changes, nor does any chance.

        The rates are those of the fastest group; all others keep their distance to it. Schedules, late beginnings,
        averages and callbacks are left out. ``plot()`` of the result draws the losses.

        Parameters
        ----------
        data, y : as in `repurpose`
        lowest, highest : float
            The rates to begin and to end with.
        n_steps : int, default=100
            At most; fewer where the loss leaves all bounds.

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
            span: dict[str, Any] = {"lowest": lowest, "highest": highest, "n_steps": n_steps}
            return find_learning_rate(task.module, task.batches, task.plan, task.objective, new=task.new, **span)

        return self._try_out(search, data, y)

    def _try_out(self, work: Callable[[Task], Any], data: Any, y: Any) -> Any:
        """What `work` makes of the task that these data give, on a clone, so that nothing here changes."""
        twin, found = self.__sklearn_clone__(), []

        def learn(labelled: Any) -> None:
            seed = draw_seed(deepcopy(check_random_state(twin.random_state)))  # numpy's own, too, stays where it is
            found.append(work(prepare_task(twin, labelled, None, seed=seed)))

        with unmoved_generators(data):
            twin.set_params(early_stopping=None)._learn_by(learn, data, y)
        return found[0]

    def _learn(self, data: Any, validation_data: Any = None) -> None:
        with teamed(self.distributed is not None) as team:
            device = resolve_device(self.device, self._source_network())
            crew_class = ShardingCrew if self.distributed == "fsdp" else Crew
            self._learn_with(
                Alone() if team is None else crew_class(team, device, self.sync_norm), data, validation_data
            )

    def _learn_with(self, crew: Alone, data: Any, validation_data: Any) -> None:
        members, histories, seed = [], [], 0
        for member in range(self.num_members):
            checkpoints = self._checkpoints(crew, member)
            seed = seed if member else crew.told(lambda: self._seed(checkpoints))  # noqa: B023 (called at once)
            if hasattr(self, "prediction_seed_"):
                self.prediction_seed_ = seed  # that of all processes, and of a training that is gone on with
            task = prepare_task(self, data, validation_data, seed=seed, member=member)
            groups = make_groups(task.module, task.plan, task.new)
            history = train(
                task.module,
                task.batches,
                task.plan,
                task.objective,
                new=task.new,
                validation=task.validation,
                checkpoints=checkpoints,
                crew=crew,
            )
            members.append(task.module)
            histories.append(history)
        self.parameter_groups_, self.history_, self.target_model_ = groups, histories[0], joined(members)
        if self.num_members > 1:
            self.member_histories_ = histories
        self._note_training()

    def _checkpoints(self, crew: Alone, member: int) -> Checkpoints | None:
        if self.checkpoint_dir is None:
            return None
        directory = Path(self.checkpoint_dir)
        if self.num_members > 1:
            directory = directory / f"member{member}"
        return crew.told(lambda: Checkpoints(directory))

    def _seed(self, checkpoints: Checkpoints | None) -> int:
        """Where all chance comes from: `random_state`, or without one the training that is gone on with."""
        found = None if checkpoints is None or self.random_state is not None else checkpoints.seed()
        return draw_seed(self.random_state) if found is None else found

    def _new_parameters(self, module: nn.Module) -> set[str]:
        """The names of the parameters that begin anew: those that do not hold what the source has under that name."""
        return new_parameters(module, self._source_network())

    def _handler_for(self, example_inputs: Any) -> ModelHandler:
        """A handler of its own on the source network, to be edited into the target module."""
        return ModelHandler(
            open_source(self.source_model),
            example_inputs,
            transform=self.transform,
            device=self.device,
            batch_size=self.batch_size,
        )

    def _class_count(self, wanted: int | None) -> int:
        """How many logits the network is to give. Raises ValueError for fewer than there are classes."""
        n_classes = len(self.classes_)
        if wanted is not None and wanted < n_classes:
            some = ", ".join(map(repr, self.classes_[:5].tolist())) + (", ..." if n_classes > 5 else "")
            raise ValueError(
                f"target_class_count={wanted} is too small: the labels hold {n_classes} classes ({some}); leave it "
                f"out, or give at least {n_classes}"
            )
        return n_classes if wanted is None else int(wanted)

    def _has_own_loss(self) -> bool:
        """Whether a subclass defines the loss, which may then look into the network."""
        return type(self)._training_loss is not NeuralNetworkRepurposer._training_loss

    def _parameter_mistakes(self) -> list[str]:
        values = {name: getattr(self, name) for name in TrainingPlan.__dataclass_fields__ if hasattr(self, name)}
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
                *crew_mistakes(self.distributed, self.sync_norm),
                *(sharding_mistakes(vars(self)) if self.distributed == "fsdp" else []),
            ]
        )


def class_count_mistakes(count: Any) -> list[str]:
    """What is wrong with `target_class_count`, before the labels are known."""
    if count is None or is_whole(count, 2):
        return []
    return [f"target_class_count must be a whole number of at least 2, or None, got {count!r}"]
