"""The parameters by which a network is trained, whatever it learns: classes, or boxes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Real
from os import PathLike
from typing import Any

from torch import nn

from model_handler import Source
from repurpose.training.checkpoints.checkpoints import checkpoint_mistakes
from repurpose.training.distributed.data_parallel import distributed_mistakes
from repurpose.training.distributed.fully_sharded import sharding_mistakes
from repurpose.training.plan.optimizers import OptimizerChoice
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.plan.schedulers import SchedulerChoice
from repurpose.training.task import Task
from repurpose.transfer_estimator import TransferEstimator

__all__ = ["TrainingParameters"]

_OF_CLASSES = {"label_smoothing": 0.0, "mixup": 0.0, "cutmix": 0.0}  # what the loss of anything else does without


class TrainingParameters(TransferEstimator):
    """Stores how a network is trained, and judges it.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    num_epochs : int, optional
        How often training goes through all rows. None: as many times as give 100 steps (500 of a detector), from 5 to
        50, so that few rows are learned too; Xfer's default was 5.
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
        The share of each class, or of images with boxes, that is not learned from, and by which each epoch is judged;
        or give ``repurpose(data, validation_data=...)``.
    early_stopping : int, optional
        After how many epochs without a lower validation loss training ends; the best weights are kept.
    norm_statistics : "source" or "batch", default="source"
        Which mean and variance BatchNorm normalises by in training: those that it came with, as in prediction, or those
        of each batch, which its running statistics then follow. Its weights learn in either case. New
        normalisation follows the batches. Few rows are no measure of statistics; with many, or for data unlike the
        source's, ``"batch"`` may be better.
    clip_norm : float, optional
        The largest norm of the gradient of all parameters together.
    accumulation : int, default=1
        How many batches make a step of the optimiser; a last step of fewer counts their rows.
    precision : str, default="float32"
        ``"bfloat16"`` computes convolutions and matrix products in it, in training and prediction.
    ema : float, optional
        The decay of an exponential moving average of the weights, such as 0.999, which is then the network.
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
    **kwargs
        Those of `TransferEstimator`.
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
        norm_statistics: str = "source",
        clip_norm: float | None = None,
        accumulation: int = 1,
        precision: str = "float32",
        ema: float | None = None,
        l2_sp: float | tuple[float, float] | None = None,
        cache_frozen: bool | str | Mapping[str, Any] = "auto",
        callbacks: Sequence[Callable] = (),
        checkpoint_dir: str | PathLike | None = None,
        distributed: str | None = "ddp",
        sync_norm: bool = False,
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
        self.norm_statistics = norm_statistics
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        self.precision = precision
        self.ema = ema
        self.l2_sp = l2_sp
        self.cache_frozen = cache_frozen
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.distributed = distributed
        self.sync_norm = sync_norm

    def _plan_values(self) -> dict[str, Any]:
        """Collect the parameters that are part of a `TrainingPlan`, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(TrainingPlan) if hasattr(self, field.name)}
        return {**_OF_CLASSES, **found}

    def _refuse_blind_stopping(self, task: Task) -> None:
        """Raise ValueError where training is to end early and nothing judges its epochs."""
        if task.evaluation is None and self.early_stopping is not None:
            raise ValueError("early_stopping needs something to judge by: validation_fraction=0.1, or validation_data")

    def _parameter_mistakes(self) -> list[str]:
        values = {**self._plan_values(), "seed": 0}
        if self.num_epochs is None:
            values["num_epochs"] = sys.maxsize  # chosen so that all that is to begin begins
        mistakes = super()._parameter_mistakes()
        if isinstance(self.callbacks, Sequence) and not isinstance(self.callbacks, str):
            mistakes += TrainingPlan(**{**values, "callbacks": tuple(self.callbacks)}).mistakes()
        else:
            mistakes.append(f"callbacks must be a list, got {self.callbacks!r}")
        share = self.validation_fraction
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share < 1:
            mistakes.append(f"validation_fraction must be a share from 0 to below 1, got {share!r}")
        return [
            *mistakes,
            *checkpoint_mistakes(self.checkpoint_dir),
            *distributed_mistakes(self.distributed, self.sync_norm),
            *(sharding_mistakes(vars(self)) if self.distributed == "fsdp" else []),
        ]
