"""The loop: `train` takes a network through the epochs of a plan, in place.

A step of the optimiser takes a window of `accumulation` batches, each in pieces where memory asks for it; the gradient
is that of the mean over all rows of the window. What changes on the way is a `TrainingState`.
"""

import math
import time
import warnings
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.precision import computing_in
from model_handler.progress import Progress
from repurpose.training.averaging import averaged
from repurpose.training.batches import TrainingBatch, TrainingBatches
from repurpose.training.callbacks import Callback
from repurpose.training.calling import logits_of, on_device, pieces
from repurpose.training.chance import drawing_from, seed_of
from repurpose.training.diverging import explain_divergence, is_finite
from repurpose.training.groups import GroupTable, make_groups
from repurpose.training.history import History
from repurpose.training.losses import Pull, make_mixing, weight_of
from repurpose.training.memory import with_smaller_batches
from repurpose.training.objective import DivergedError, Objective
from repurpose.training.optimizers import make_optimizer, make_scheduler, steps_each_batch
from repurpose.training.plan import TrainingPlan
from repurpose.training.state import Snapshot, TrainingState
from repurpose.training.statistics import statistics_that_follow
from repurpose.training.unfreezing import let_learn
from repurpose.training.validation import validate

__all__ = ["Training", "train"]

_DRAWING = 3


def train(
    module: nn.Module,
    batches: TrainingBatches,
    plan: TrainingPlan,
    objective: Objective,
    *,
    new: Collection[str] = (),
    validation: TrainingBatches | None = None,
) -> History:
    """Train `module`, in place, and leave it in evaluation mode with the weights to keep.

    Parameters
    ----------
    module : nn.Module
        On the device to compute on. Parameters that require no gradient stay as they are.
    batches, validation : TrainingBatches
    plan : TrainingPlan
    objective : Objective
    new : collection of str
        The names of the parameters that begin anew: the group "new".

    Raises
    ------
    ModelError
        If patterns of the plan match nothing, or nothing would learn.
    DivergedError
        A ValueError, if the loss is NaN or infinite before an epoch ended well. Later, training ends with a UserWarning
        and the weights of the last epoch that did.
    """
    groups = make_groups(module, plan, new)

    def attempt(rows_at_once: int | None) -> History:
        return Training(module, batches, plan, objective, groups, new, validation, rows_at_once).run()

    with statistics_that_follow(module):
        return with_smaller_batches(attempt, module, batches.most)


class Training:
    """One run through all epochs. `state` is what changes, `groups` and `batches` what does not."""

    def __init__(
        self,
        module: nn.Module,
        batches: TrainingBatches,
        plan: TrainingPlan,
        objective: Objective,
        groups: GroupTable,
        new: Collection[str],
        validation: TrainingBatches | None = None,
        rows_at_once: int | None = None,
    ) -> None:
        self.batches, self.plan, self.objective, self.groups = batches, plan, objective, groups
        self.validation, self.rows_at_once = validation, rows_at_once
        first = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self.device, self.dtype = first.device, first.dtype
        let_learn(module, groups, epoch=0)
        optimizer = make_optimizer(module, groups, plan)
        scheduler = make_scheduler(optimizer, plan, math.ceil(batches.n_batches / plan.accumulation))
        average = None if plan.ema is None else averaged(module, plan.ema)
        self.state = TrainingState(module, optimizer, scheduler, average)
        self._pull = None if plan.pull is None else Pull(module, new, *plan.pull, decay_all=plan.decay_all)
        self._mix = make_mixing(plan, objective.n_outputs)
        self._callbacks = [one for one in plan.callbacks if isinstance(one, Callback)]
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._outputs: list[Any] = []

    def run(self) -> History:
        """Train from where the state is to the end, and leave the weights to keep in the module."""
        state, module = self.state, self.state.module
        watch = module.register_forward_hook(self._see_output)
        rows = self.batches.n_rows * (self.plan.num_epochs - state.epoch)
        try:
            with Progress("Training", rows, self.plan.verbose) as progress:
                for callback in self._callbacks:
                    callback.begin(state)
                state.history.ending = "all epochs done"
                while state.epoch < self.plan.num_epochs:
                    if ending := self._epoch(state.epoch, progress):
                        state.history.ending = ending
                        break
                progress.finish()
        finally:
            watch.remove()
            for callback in self._callbacks:
                callback.end(state)
        if state.kept is not None and (state.average is not None or state.kept.step != state.step):
            module.load_state_dict(state.kept.weights)
        module.zero_grad(set_to_none=True)
        module.eval()
        return state.history

    def _epoch(self, number: int, progress: Progress) -> str | None:
        """One epoch: its steps, its validation, its record. Returns why training ends, if it does."""
        state, started = self.state, time.monotonic()
        let_learn(state.module, self.groups, number)
        totals = _Totals()
        with drawing_from(seed_of(self.plan.seed, _DRAWING, number)):
            state.module.train()
            try:
                for window in _windows(self.batches.epoch(number), self.plan.accumulation):
                    if self._step(window, totals):
                        return "a callback ended it"
                    note = self._note(number, totals) if progress.is_wanted else ""
                    progress.advance(sum(batch.n_rows for batch in window), note)
                if not totals.n_rows:
                    raise ValueError("the data gave no batch to train on")
                if not is_finite(state.module):
                    raise DivergedError(explain_divergence(self, totals.n_batches, None))
            except DivergedError as error:
                if state.kept is None:
                    raise
                message = f"{error}; the weights after epoch {state.kept.epoch} (from 0) are kept"
                warnings.warn(message, UserWarning, stacklevel=2)
                return message
            record = {"epoch": number, **totals.means(), "learning_rates": self.learning_rates()}
            if self.validation is not None:
                record.update(validate(state.evaluated, self.validation, self.objective, self.plan.precision))
        record["seconds"] = time.monotonic() - started
        return self._close_epoch(number, record)

    def _close_epoch(self, number: int, record: dict[str, Any]) -> str | None:
        state, patience = self.state, self.plan.early_stopping
        score = record.get("validation_loss")
        if state.scheduler is not None and not steps_each_batch(state.scheduler):
            _step_epoch(state.scheduler, record["loss"] if score is None else score)
        if patience is None or state.kept is None or _is_better(score, state.kept.score):
            state.kept = Snapshot.of(state.evaluated, number, state.step, score)
        state.epoch = number + 1
        state.history.records.append(record)
        if patience is not None and state.kept is not None:
            state.history.best_epoch = state.kept.epoch
        asked = [callback(state, record) for callback in self.plan.callbacks]
        if any(one is True for one in asked):
            return "a callback ended it"
        if patience is not None and state.kept is not None and number - state.kept.epoch >= patience:
            return f"the validation loss did not fall for {patience} epochs"
        return None

    def _step(self, window: list[TrainingBatch], totals: "_Totals") -> bool:
        """One step of the optimiser; whether a callback wants training to end."""
        state, optimizer = self.state, self.state.optimizer
        parts = [part for batch in window for part in self._parts(batch)]
        weights = [weight_of(targets, self.objective.class_weights) for _, targets in parts]
        whole = sum(weights)
        for number, ((inputs, targets), weight) in enumerate(zip(parts, weights)):
            targets = targets.to(self.device)
            with computing_in(self.plan.precision, self.device):
                placed = on_device(inputs, self.device, self.dtype)
                loss = self.objective.training_loss(state.module, placed, targets)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise DivergedError(explain_divergence(self, totals.n_batches, inputs))
            if number == 0:
                optimizer.zero_grad(set_to_none=True)  # not before: the last gradients tell where it went wrong
            (loss if len(parts) == 1 else loss * (weight / whole)).backward()
            totals.add(value, weight, targets, self._outputs)
        totals.n_batches += len(window)
        if self._pull is not None:
            self._pull.add_gradients()
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.plan.clip_norm)
        self._rates = self.learning_rates()
        optimizer.step()
        if state.scheduler is not None and steps_each_batch(state.scheduler):
            state.scheduler.step()
        if state.average is not None:
            state.average.update_parameters(state.module)
        state.step += 1
        asked = [callback.step(state, totals.last) for callback in self._callbacks]
        return any(one is True for one in asked)

    def learning_rates(self) -> dict[str, float]:
        """The rate of each group now; of groups of one name, the highest."""
        rates: dict[str, float] = {}
        for group, entry in zip(self.groups, self.state.optimizer.param_groups):
            rates[group.name] = max(rates.get(group.name, 0.0), float(entry["lr"]))
        return rates

    def _parts(self, batch: TrainingBatch) -> Iterator[tuple[Any, Tensor]]:
        """A batch, mixed if the plan says so, in pieces that fit into memory."""
        batch = batch if self._mix is None else self._mix(batch)
        cut = pieces((batch.inputs, batch.targets), batch.n_rows, self.rows_at_once)
        return iter(cut)

    def _note(self, epoch: int, totals: "_Totals") -> str:
        rates = ", ".join(f"{name} {rate:.0e}" for name, rate in list(self._rates.items())[:3])
        means = totals.means()
        accuracy = "" if means["accuracy"] is None else f", accuracy {means['accuracy']:.3f}"
        return f"epoch {epoch + 1}/{self.plan.num_epochs}, loss {means['loss']:.3f}{accuracy}, {rates}"

    def _see_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._outputs = [output]


class _Totals:
    """Sums over the batches of an epoch."""

    def __init__(self) -> None:
        self.n_batches = self.n_rows = self.n_right = self.n_judged = 0
        self.loss = self.weight = self.last = 0.0

    def add(self, loss: float, weight: float, targets: Tensor, outputs: list[Any]) -> None:
        self.loss, self.weight, self.last = self.loss + loss * weight, self.weight + weight, loss
        self.n_rows += len(targets)
        try:
            predicted = logits_of(outputs.pop()).detach().argmax(dim=1)
        except (ValueError, IndexError, AttributeError):  # a loss of the user's own may call the network otherwise
            return
        codes = targets.argmax(dim=1) if targets.is_floating_point() else targets
        if predicted.shape == codes.shape:
            self.n_right, self.n_judged = self.n_right + int((predicted == codes).sum()), self.n_judged + len(codes)

    def means(self) -> dict[str, float | None]:
        return {
            "loss": self.loss / self.weight if self.weight else math.nan,
            "accuracy": self.n_right / self.n_judged if self.n_judged else None,
        }


def _is_better(score: float | None, best: float | None) -> bool:
    """Whether a validation loss is below the best so far; one that is no number never is, and any other is below it."""
    return score is not None and math.isfinite(score) and (best is None or not best <= score)


def _windows(batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
    while window := list(islice(batches, size)):
        yield window


def _step_epoch(scheduler: Any, score: float) -> None:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(score)
    else:
        scheduler.step()
