"""The plan holds everything about how a network is trained, in one object that is judged before any work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from model_handler.network.precision import check_precision
from repurpose.parameters import is_whole
from repurpose.training.plan.cache_options import cache_mistakes
from repurpose.training.plan.norm_statistics import STATISTICS
from repurpose.training.plan.optimizers import optimizer_mistakes
from repurpose.training.plan.schedulers import scheduler_mistakes

__all__ = ["TrainingPlan"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingPlan:
    """How to train; `TrainingParameters` and `NeuralNetworkRepurposer`, whose parameters these are, have the defaults.

    `seed` is where everything random in a training comes from, `verbose` whether progress is shown.
    """

    num_epochs: int
    optimizer: Any
    optimizer_params: Mapping[str, Any] | None
    learning_rates: Mapping[Any, float] | None
    layer_decay: float | None
    decay_all: bool
    scheduler: Any
    scheduler_params: Mapping[str, Any] | None
    unfreeze: Mapping[Any, int] | None
    probe_epochs: int
    early_stopping: int | None
    label_smoothing: float
    clip_norm: float | None
    accumulation: int
    precision: str
    ema: float | None
    mixup: float
    cutmix: float
    l2_sp: Any
    cache_frozen: Any
    norm_statistics: str
    seed: int
    verbose: bool | None
    callbacks: tuple[Callable, ...]

    @property
    def l2_sp_coefficients(self) -> tuple[float, float] | None:
        """Alpha and beta of L2-SP; a single number is both."""
        if self.l2_sp is None:
            return None
        return (self.l2_sp, self.l2_sp) if isinstance(self.l2_sp, Real) else tuple(self.l2_sp)

    @property
    def epochs_of_start(self) -> dict[Any, int]:
        """The epoch in which the parameters that a pattern matches begin to learn, by pattern."""
        probing = {"transferred": self.probe_epochs} if self.probe_epochs else {}
        return {**probing, **(self.unfreeze or {})}

    def mistakes(self) -> list[str]:
        """Write a sentence for each value that cannot be used; what only the network can tell is not judged here."""
        found = [
            *_counts(self, "num_epochs", "accumulation", least=1),
            *_counts(self, "probe_epochs", least=0),
            *_numbers(self, "label_smoothing", "a number from 0 to below 1", lambda value: 0 <= value < 1),
            *_numbers(self, "mixup", "a number of at least 0", lambda value: value >= 0),
            *_numbers(self, "cutmix", "a number of at least 0", lambda value: value >= 0),
            *_numbers(self, "clip_norm", "a positive number or None", lambda value: value > 0),
            *_numbers(self, "layer_decay", "a number above 0, at most 1, or None", lambda value: 0 < value <= 1),
            *_numbers(self, "ema", "a number above 0, below 1, or None", lambda value: 0 < value < 1),
        ]
        if self.early_stopping is not None:
            found += _counts(self, "early_stopping", least=1)
        try:
            check_precision(self.precision)
        except ValueError as error:
            found.append(str(error))
        if self.decay_all not in (True, False):
            found.append(f"decay_all must be True or False, got {self.decay_all!r}")
        found += _l2_sp_mistakes(self.l2_sp) + _unfreeze_mistakes(self)
        found += [
            f"callbacks must be functions of (state, record), or Callbacks, got {callback!r}"
            for callback in self.callbacks
            if not callable(callback) or isinstance(callback, type)
        ]
        found += cache_mistakes(self.cache_frozen)
        if self.norm_statistics not in STATISTICS:
            found.append(f"norm_statistics must be 'source' or 'batch', got {self.norm_statistics!r}")
        found += optimizer_mistakes(self.optimizer, self.optimizer_params, self.learning_rates)
        return found + scheduler_mistakes(self.scheduler, self.scheduler_params, self.optimizer, self.optimizer_params)


def _is_finite_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) < float("inf")


def _counts(plan: TrainingPlan, *names: str, least: int) -> list[str]:
    return [
        f"{name} must be a whole number of at least {least}, got {getattr(plan, name)!r}"
        for name in names
        if not is_whole(getattr(plan, name), least)
    ]


def _numbers(plan: TrainingPlan, name: str, wanted: str, holds: Callable[[Any], bool]) -> list[str]:
    value = getattr(plan, name)
    if value is None and wanted.endswith("None"):
        return []
    return [] if _is_finite_number(value) and holds(value) else [f"{name} must be {wanted}, got {value!r}"]


def _l2_sp_mistakes(l2_sp: object) -> list[str]:
    pair = (l2_sp, l2_sp) if _is_finite_number(l2_sp) else l2_sp
    if l2_sp is None:
        return []
    if (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(_is_finite_number(number) and number >= 0 for number in pair)
    ):
        return []
    return [f"l2_sp must be a number of at least 0, a pair of them (alpha, beta), or None, got {l2_sp!r}"]


def _unfreeze_mistakes(plan: TrainingPlan) -> list[str]:
    if plan.unfreeze is not None and not isinstance(plan.unfreeze, Mapping):
        return [f'unfreeze must be a dict of layers to epochs, such as {{"layer3": 4}}, got {plan.unfreeze!r}']
    late = {name: epoch for name, epoch in plan.epochs_of_start.items() if not is_whole(epoch, 0)}
    strange = [name for name in plan.epochs_of_start if not isinstance(name, (str, type))]
    mistakes = [f"unfreeze names layers, types, 'new', 'transferred' or '*', got {name!r}" for name in strange]
    mistakes += [f"unfreeze gives epochs that are no whole numbers of at least 0: {late}"] if late else []
    if not late and is_whole(plan.num_epochs, 1):
        never = {name: epoch for name, epoch in plan.epochs_of_start.items() if epoch >= plan.num_epochs}
        mistakes += [
            f"{name!r} would begin to learn in epoch {epoch} (from 0), and there are only {plan.num_epochs}: let it "
            "begin earlier, raise num_epochs, or freeze it by a learning rate of 0"
            for name, epoch in never.items()
        ]
    return mistakes
