"""The loop: `train` takes a network through the epochs of a plan, in place.

A step of the optimiser takes a window of `accumulation` batches, each in pieces where memory asks for it; the gradient
is that of the mean over all rows of the window. What changes on the way is a `TrainingState`.
"""

import math
import time
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from model_handler.network.ambient_modes import undisturbed
from model_handler.network.copying import detach_tensors
from model_handler.network.precision import computing_in
from model_handler.network.states import load_state, state_of
from model_handler.progress import Progress
from repurpose.training.callbacks import Callback
from repurpose.training.checkpoints.checkpoints import Checkpoints
from repurpose.training.checkpoints.configuration import describe_training
from repurpose.training.data.batches import EpochBatches, TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from, seed_of
from repurpose.training.distributed.single_process import Alone
from repurpose.training.frozen.frozen import FrozenPart
from repurpose.training.frozen.row_reader import checksum_of_rows
from repurpose.training.history import History
from repurpose.training.plan.cache_options import cache_options
from repurpose.training.plan.groups import GroupTable, make_groups
from repurpose.training.plan.norm_statistics import explaining_single_rows, statistics_that_follow
from repurpose.training.plan.optimizers import make_optimizer, make_scheduler, step_epoch, steps_each_batch
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.plan.unfreezing import let_learn
from repurpose.training.state import Snapshot, TrainingState
from repurpose.training.steps.averaging import averaged
from repurpose.training.steps.divergence import explain_divergence, not_finite
from repurpose.training.steps.forward import on_device, pieces
from repurpose.training.steps.gradient_reach import Reach
from repurpose.training.steps.losses import Pull, make_mixing, weight_of
from repurpose.training.steps.objective import DivergedError, Objective, value_of
from repurpose.training.steps.smaller_batches import with_smaller_batches
from repurpose.training.totals import Totals
from repurpose.training.validation import validate

__all__ = ["Training", "train"]

_DRAWING = 3


@undisturbed()
def train(
    module: nn.Module,
    batches: TrainingBatches,
    plan: TrainingPlan,
    objective: Objective,
    *,
    new: Collection[str] = (),
    validation: TrainingBatches | None = None,
    checkpoints: Checkpoints | None = None,
    crew: Alone | None = None,
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
    checkpoints : Checkpoints, optional
        Where each epoch is written down, and what was written before is gone on with.
    crew : Crew, optional
        The processes that train it together, each of which makes this call.

    Raises
    ------
    ModelError
        If patterns of the plan match nothing, nothing would learn, or no gradient reaches what the plan names (in 20
        steps) or what other parameters stand in for (in the first); see `reaching`.
    DivergedError
        A ValueError, if the loss is NaN or infinite before an epoch ended well. Later, training ends with a UserWarning
        and the weights of the last epoch that did.
    """
    crew, groups = crew or Alone(), make_groups(module, plan, new)
    shared = crew.dealt(batches)
    judging = None if validation is None else crew.dealt(validation)

    configuration: dict[str, str] = {}
    if checkpoints is not None or crew.n_processes > 1:
        configuration = describe_training(module, shared, plan, objective, groups, judging)
        crew.agree(configuration)
    if checkpoints is not None:
        known = {"inputs": batches, "validation inputs": validation}
        configuration |= {name: checksum_of_rows(one) for name, one in known.items() if one is not None}
    record = None if checkpoints is None else (checkpoints, configuration)

    begun = shared.state_dict()

    def attempt(rows_at_once: int | None) -> History:
        crew.recovered()
        shared.load_state_dict(begun)
        let_learn(module, groups, epoch=0)
        with crew.prepared(module) as own:
            return Training(own, shared, plan, objective, groups, new, judging, rows_at_once, record, crew).run()

    with statistics_that_follow(module):
        return with_smaller_batches(attempt, module, batches.most)


class Training:
    """One run through all epochs. `state` is what changes, `groups` and `batches` what does not.

    `checkpoints` stand with the configuration that they have to be of.
    """

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
        checkpoints: tuple[Checkpoints, dict[str, str]] | None = None,
        crew: Alone | None = None,
    ) -> None:
        crew = crew or Alone()
        self.plan = crew.planned(plan)
        self.batches, self.objective, self.groups, self.rows_at_once = batches, objective, groups, rows_at_once
        first = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self.device, self.dtype = first.device, first.dtype
        self._checkpoints, self._crew, self._judges = checkpoints, crew, validation is not None
        let_learn(module, groups, epoch=0)
        optimizer = make_optimizer(module, groups, plan)
        scheduler = make_scheduler(optimizer, plan, math.ceil(batches.n_batches / plan.accumulation))
        average = None if plan.ema is None else averaged(module, plan.ema)
        self.state = TrainingState(module, optimizer, scheduler, average)
        self._pull = None if plan.pull is None else Pull(module, new, *plan.pull, decay_all=plan.decay_all)
        self._mix = make_mixing(plan, objective.n_outputs)
        self._frozen = FrozenPart(
            module,
            batches,
            cache_options(self.plan.cache_frozen),
            num_epochs=plan.num_epochs,
            precision=plan.precision,
            changes={group.from_epoch for group in groups},
            mixes=self._mix is not None,
            own_loss=objective.is_own,
            validation=validation,
            crew=crew,
        )
        self._reach = Reach(module, groups, crew, own_loss=objective.is_own)
        self._callbacks = [one for one in self.plan.callbacks if isinstance(one, Callback)]
        self._watches_steps = crew.told(lambda: any(map(_watches_steps, self._callbacks)))
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._outputs: list[Any] = []
        self._never_finite = not_finite(module)  # masks of attention, for example
        self._rates: dict[str, float] = {}  # in the last step

    def run(self) -> History:
        """Train from where the state is to the end, and leave the weights to keep in the module."""
        state, module = self.state, self.state.module
        self._go_on()
        rows = self.batches.n_rows * (self.plan.num_epochs - state.epoch)
        try:
            with self._frozen, Progress("Training", rows, self.plan.verbose, self._whole()) as progress:
                self._crew.told(self._begin)
                while not state.history.ending:
                    with self._crew.together():
                        ending = self._epoch(state.epoch, progress)
                        if state.epoch == self.plan.num_epochs:
                            ending = ending or "all epochs done"
                        state.history.ending = ending or ""
                        self._save()
                with self._crew.together():
                    self._reach.judge()
                progress.finish()
        finally:
            self._crew.unwrap()
            self._reach.close()
            for callback in self._callbacks:
                callback.end(state)
        if state.average is not None or (state.kept is not None and state.kept.step != state.step):
            load_state(module, state_of(state.evaluated) if state.kept is None else state.kept.weights)
        module.zero_grad(set_to_none=True)
        module.eval()
        detach_tensors(module)
        return state.history

    def _whole(self) -> str:
        """What is still to be done, for an estimate of its time, which one process of several tells."""
        n_epochs = self.plan.num_epochs - self.state.epoch
        beside = " (validation not counted)" if self._judges else ""
        return f"{n_epochs} epoch{'s' if n_epochs > 1 else ''}{beside}" if self._crew.leads else ""

    def _begin(self) -> None:
        for callback in self._callbacks:
            callback.begin(self.state)

    def _go_on(self) -> None:
        """Take up what a checkpoint holds; where there is none, write one, so that what cannot be written shows now."""
        if self._checkpoints is None:
            return
        checkpoints, configuration = self._checkpoints
        found = self._crew.told(lambda: checkpoints.load(configuration))
        if found is None:
            self._save()
        else:
            self.state.load_state_dict(found["training"])
            self.batches.load_state_dict(found["batches"])
            let_learn(self.state.module, self.groups, max(0, self.state.epoch - 1))

    def _save(self) -> None:
        if self._checkpoints is not None:
            found = {"training": self.state.state_dict(), "batches": self.batches.state_dict()}
            checkpoints, configuration = self._checkpoints
            self._crew.told(lambda: checkpoints.save(found, self.state.epoch, configuration))

    def _epoch(self, number: int, progress: Progress) -> str | None:
        """One epoch: its steps, its validation, its record. Returns why training ends, if it does."""
        state, started = self.state, time.monotonic()
        let_learn(state.module, self.groups, number)
        totals, feed = Totals(), self._frozen.feed(number)
        self._reach.begin(feed.module)
        seeing = feed.module.register_forward_hook(self._see_output)
        with drawing_from(seed_of(self.plan.seed, _DRAWING, number, *self._crew.own_numbers)), seeing:
            state.module.train()
            feed.module.train()
            self._crew.wrap(feed.module, self.objective.training_loss)
            try:
                with self._crew.together():
                    if self._steps(feed.batches, totals, progress):
                        return "a callback ended it"
            except DivergedError as error:
                if state.kept is None:
                    raise
                message = f"{error}; the weights after epoch {state.kept.epoch} (from 0) are kept"
                warnings.warn(message, UserWarning, stacklevel=2)
                self._crew.recovered()
                load_state(state.module, state.kept.weights)  # no step, but statistics of normalisation moved
                return message
            self._crew.level(*dict.fromkeys((state.module, state.evaluated)))
            record = {"epoch": number, **totals.means(), "learning_rates": self._rates}
            if judged := self._frozen.validated(state.evaluated):
                how = (self.objective, self.plan.precision, self._crew)
                record.update(validate(judged.module, judged.batches, *how))
        record["seconds"] = time.monotonic() - started
        record = self._crew.told(lambda: record)
        return self._close_epoch(number, record)

    def _steps(self, batches: EpochBatches, totals: Totals, progress: Progress) -> bool:
        """All steps of an epoch; whether a callback wants training to end."""
        number = self.state.epoch
        opened = self._crew.opened(batches.epoch(number), seed_of(self.plan.seed, _DRAWING, number))
        for window in self._crew.rounds(opened, self.plan.accumulation):
            if self._step(window, totals):
                return True
            n_rows = sum(batch.n_rows for batch in window) * self._crew.n_processes
            progress.advance(n_rows, lambda: self._note(number, totals))
        totals.add_up(self._crew)
        if not totals.n_rows:
            raise ValueError("the data gave no batch to train on")
        if not_finite(self.state.module) - self._never_finite:
            raise DivergedError(explain_divergence(self, totals.n_batches, None))
        return False

    def _close_epoch(self, number: int, record: dict[str, Any]) -> str | None:
        state, patience = self.state, self.plan.early_stopping
        score = record.get("validation_loss")
        if state.scheduler is not None and not steps_each_batch(state.scheduler):
            step_epoch(state.scheduler, record["loss"] if score is None else score)
        if patience is None or state.kept is None or _is_better(score, state.kept.score):
            state.kept = Snapshot.of(state.evaluated, number, state.step, score)
        state.epoch = number + 1
        state.history.records.append(record)
        if patience is not None and state.kept is not None:
            state.history.best_epoch = state.kept.epoch
        if self._crew.told(lambda: _asks([callback(state, record) for callback in self.plan.callbacks])):
            return "a callback ended it"
        if patience is not None and state.kept is not None and number - state.kept.epoch >= patience:
            return f"the validation loss did not fall for {patience} epochs"
        return None

    def _step(self, window: list[TrainingBatch], totals: Totals) -> bool:
        """One step of the optimiser; whether a callback wants training to end."""
        state, optimizer = self.state, self.state.optimizer
        parts = [part for batch in window for part in self._parts(batch)]
        (whole,) = self._crew.total(sum(weight for _, _, weight in parts))
        before = totals.loss
        for number, (inputs, targets, weight) in enumerate(parts):
            is_last = number == len(parts) - 1
            targets = targets.to(self.device)
            with self._crew.gathering(is_last=is_last):
                with computing_in(self.plan.precision, self.device), explaining_single_rows():
                    loss = self._crew.loss(on_device(inputs, self.device, self.dtype), targets)
                value = value_of(loss)
                if not math.isfinite(value):
                    raise DivergedError(explain_divergence(self, totals.n_batches, inputs))
                self._reach.look(loss)
                if number == 0:
                    optimizer.zero_grad(set_to_none=True)  # not before: the last gradients tell where it went wrong
                self._crew.backward(loss if weight == whole else loss * (weight / whole), is_last=is_last)
            totals.add(value, weight, targets, self._outputs)
        totals.n_batches += len(window)
        self._reach.note_step()
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
        if not self._watches_steps:
            return False
        mean = self._crew.total(totals.loss - before)[0] / (whole or 1)
        return self._crew.told(lambda: _asks([callback.step(state, mean) for callback in self._callbacks]))

    def learning_rates(self) -> dict[str, float]:
        """The rate of each group now; of groups of one name, the highest."""
        rates: dict[str, float] = {}
        for group, entry in zip(self.groups, self.state.optimizer.param_groups):
            rates[group.name] = max(rates.get(group.name, 0.0), float(entry["lr"]))
        return rates

    def _parts(self, batch: TrainingBatch) -> Iterator[tuple[Any, Tensor, float]]:
        """A batch, mixed if the plan says so, in pieces that fit into memory, each with its weight in the mean."""
        batch = batch if self._mix is None else self._mix(batch)
        for inputs, targets in pieces((batch.inputs, batch.targets), batch.n_rows, self.rows_at_once):
            yield inputs, targets, weight_of(targets, self.objective.class_weights) if batch.counts else 0.0

    def _note(self, epoch: int, totals: Totals) -> str:
        rates = ", ".join(f"{name} {rate:.0e}" for name, rate in list(self._rates.items())[:3])
        means = totals.means()
        accuracy = "" if means["accuracy"] is None else f", accuracy {means['accuracy']:.3f}"
        return f"epoch {epoch + 1}/{self.plan.num_epochs}, loss {means['loss']:.3f}{accuracy}, {rates}"

    def _see_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._outputs = [output]


def _is_better(score: float | None, best: float | None) -> bool:
    """Whether a validation loss is below the best so far; one that is no number never is, and any other is below it."""
    return score is not None and math.isfinite(score) and (best is None or not best <= score)


def _asks(answers: list[Any]) -> bool:
    """Whether a callback asks to end training."""
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)


def _watches_steps(callback: Callback) -> bool:
    return type(callback).step is not Callback.step
