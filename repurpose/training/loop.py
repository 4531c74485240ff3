"""The training loop: `train` takes a network through the epochs of a plan, in place.

An epoch is taken in steps of the optimiser (`optimizer_step`), each on a window of `accumulation` batches. What changes
on the way is a `TrainingState`.
"""

import math
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from model_handler.errors import CorruptFileError
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.copying import detach_tensors
from model_handler.network.states import load_state, state_of
from model_handler.progress import Progress
from repurpose.training.callbacks import Callback
from repurpose.training.checkpoints.checkpoints import Checkpoints
from repurpose.training.checkpoints.configuration import describe_training
from repurpose.training.checkpoints.fitting import check_fits
from repurpose.training.data.batches import BatchSource, EpochBatches, TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.frozen.frozen import FrozenPart
from repurpose.training.frozen.row_reader import checksums_of_streams
from repurpose.training.history import History
from repurpose.training.optimizer_step import OptimizerStep
from repurpose.training.plan.cache_options import cache_options
from repurpose.training.plan.norm_statistics import statistics_that_follow
from repurpose.training.plan.optimizers import make_optimizer
from repurpose.training.plan.schedulers import make_scheduler, step_epoch, steps_each_batch
from repurpose.training.plan.unfreezing import let_learn
from repurpose.training.state import Snapshot, TrainingState, load_states, states_of
from repurpose.training.steps.averaging import averaged
from repurpose.training.steps.divergence import not_finite
from repurpose.training.steps.objective import DivergedError, warn_of_left_out
from repurpose.training.steps.smaller_batches import with_smaller_batches
from repurpose.training.task import Task
from repurpose.training.totals import Totals

__all__ = ["Training", "train"]


@undisturbed()
def train(task: Task, *, checkpoints: Checkpoints | None = None, process_group: ProcessGroup | None = None) -> History:
    """Train the module of a task, in place, and leave it in evaluation mode with the weights to keep.

    Parameters
    ----------
    task : Task
        The module and all that its training needs.
    checkpoints : Checkpoints, optional
        The checkpoints that each epoch is written to, and that an interrupted training resumes from.
    process_group : ProcessGroup, optional
        The processes that train it together, each of which makes this call.

    Returns
    -------
    History

    Raises
    ------
    ModelError
        If no gradient reaches what the plan names (in 20 steps) or what other parameters stand in for (in the first);
        see `gradient_reach`.
    DivergedError
        A ValueError, if the loss is NaN or infinite before an epoch ended well. Later, training ends with a UserWarning
        and the weights of the last epoch that did.
    """
    process_group = process_group or SingleProcess()
    batches = process_group.shard(task.batches)
    judged = None if task.evaluation is None else process_group.shard(task.evaluation.batches)
    configuration: dict[str, str] = {}
    if checkpoints is not None or process_group.n_processes > 1:
        configuration = describe_training(task.module, batches, task.plan, task.groups, judged, task.describe())
        process_group.check_same_on_all(configuration)
    if checkpoints is not None:
        configuration |= checksums_of_streams("inputs", task.batches)
        if task.evaluation is not None:
            configuration |= checksums_of_streams("validation inputs", task.evaluation.batches)
    warn_of_left_out(task.objective, task.module)
    with process_group.raise_on_all():
        task.objective.before_training()
    record = None if checkpoints is None else (checkpoints, configuration)
    stateful = {"": batches, **task.saved}  # a name that no method gives
    begun = states_of(stateful)

    def attempt(rows_at_once: int | None) -> History:
        process_group.clear_error()
        load_states(stateful, begun)
        let_learn(task.module, task.groups, epoch=0)  # before the module is sharded, which copies what learns
        with process_group.prepare_module(task.module) as prepared:
            own_task = replace(task, module=prepared, batches=batches)
            return Training(own_task, judged, rows_at_once, record, process_group).run()

    with statistics_that_follow(task.module):
        return with_smaller_batches(attempt, task.module, task.batches.max_batch_size)


class Training:
    """One run through all epochs of a module in which the groups of the first one learn already (`let_learn`).

    `state` is what changes, `task` what does not.

    `judged` are the batches that the evaluation of the task reads in this process; `checkpoints` stand with the
    configuration that they must have.
    """

    def __init__(
        self,
        task: Task,
        judged: BatchSource | None = None,
        rows_at_once: int | None = None,
        checkpoints: tuple[Checkpoints, dict[str, str]] | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        process_group = process_group or SingleProcess()
        module, plan, groups, objective = task.module, task.plan, task.groups, task.objective
        self.plan = process_group.adapt_plan(plan)
        self.task = task
        self.groups = groups
        self._checkpoints = checkpoints
        self._process_group = process_group
        self._starts = {group.from_epoch for group in groups}
        self.state = _state_at_start(task)
        self._step = OptimizerStep(task, self.state, process_group, rows_at_once)
        self._frozen = FrozenPart(
            module,
            task.batches,
            cache_options(self.plan.cache_frozen),
            num_epochs=plan.num_epochs,
            precision=plan.precision,
            changes=self._starts,
            mixes=objective.mixing is not None,
            own_loss=objective.looks_inside,
            validation=judged,
            process_group=process_group,
        )
        self._callbacks = [callback for callback in self.plan.callbacks if isinstance(callback, Callback)]
        self._watches_steps = process_group.from_main_process(lambda: any(map(_watches_steps, self._callbacks)))
        self._never_finite = not_finite(module)  # masks of attention, for example

    def run(self) -> History:
        """Train from where the state is to the end, and leave the weights to keep in the module."""
        state, module = self.state, self.state.module
        self._resume()
        rows = self.task.batches.n_rows * (self.plan.num_epochs - state.epoch)
        try:
            with self._frozen, Progress("Training", rows, self.plan.verbose, self._work_left()) as progress:
                self._process_group.from_main_process(self._begin)
                while not state.history.ending:
                    with self._process_group.raise_on_all():
                        ending = self._epoch(state.epoch, progress)
                        if state.epoch == self.plan.num_epochs:
                            ending = ending or "all epochs done"
                        state.history.ending = ending or ""
                        self._save()
                with self._process_group.raise_on_all():
                    self._step.reach.judge()
                progress.finish()
        finally:
            self._process_group.unwrap()
            self._step.reach.close()
            for callback in self._callbacks:
                callback.end(state)
        if state.average is not None or (state.kept is not None and state.kept.step != state.step):
            load_state(module, state_of(state.evaluated) if state.kept is None else state.kept.weights)
        module.zero_grad(set_to_none=True)
        module.eval()
        detach_tensors(module)
        return state.history

    def _work_left(self) -> str:
        """Say what is left, for the estimate of its time; "" on all processes but the main one, which shows it."""
        n_epochs = self.plan.num_epochs - self.state.epoch
        beside = " (validation not counted)" if self.task.evaluation is not None else ""
        return f"{n_epochs} epoch{'s' if n_epochs > 1 else ''}{beside}" if self._process_group.is_main_process else ""

    def _begin(self) -> None:
        for callback in self._callbacks:
            callback.begin(self.state)

    def _resume(self) -> None:
        """Resume from a checkpoint; where there is none, write one, so that an unwritable directory shows now."""
        if self._checkpoints is None:
            return
        checkpoints, configuration = self._checkpoints
        found = self._process_group.from_main_process(lambda: checkpoints.load(configuration))
        if found is None:
            self._save()
        else:
            try:
                check_fits(found["training"], self.state.state_dict(), self.state.optimizer, self.state.scheduler)
                self.state.load_state_dict(found["training"])
                self.task.batches.load_state_dict(found["batches"])
                load_states(self.task.saved, found.get("saved", {}))
            except Exception as error:  # what fails, and how, is up to the file
                raise CorruptFileError(
                    f"{checkpoints.last_read or checkpoints.directory} cannot be gone on from: {error}; remove it to "
                    "start over"
                ) from error
            let_learn(self.state.module, self.groups, max(0, self.state.epoch - 1))

    def _save(self) -> None:
        if self._checkpoints is not None:
            checkpoints, configuration = self._checkpoints
            found = {"training": self.state.state_dict(), "batches": self.task.batches.state_dict()}
            if self.task.saved:
                found["saved"] = {name: part.state_dict() for name, part in self.task.saved.items()}
            self._process_group.from_main_process(lambda: checkpoints.save(found, self.state.epoch, configuration))

    def _epoch(self, number: int, progress: Progress) -> str | None:
        """Run one epoch: its steps, its evaluation, its record. Return why training ends, if it does."""
        state, started = self.state, time.monotonic()
        if number > 0 and number in self._starts:
            let_learn(state.module, self.groups, number)
        totals, feed = Totals(), self._frozen.feed(number)
        self._step.reach.begin(feed.module)
        seeing = feed.module.register_forward_hook(self._step.see_output)
        with drawing_from(seed_of(self.plan.seed, SeedPurpose.EPOCH, number, *self._process_group.rank_seeds)), seeing:
            state.module.train()
            feed.module.train()
            self._process_group.wrap(feed.module, self.task.objective.loss)
            try:
                with self._process_group.raise_on_all():
                    if self._steps(feed.batches, totals, progress):
                        return "a callback ended it"
            except DivergedError as error:
                if state.kept is None:
                    raise
                message = f"{error}; the weights after epoch {state.kept.epoch} (from 0) are kept"
                warnings.warn(message, UserWarning, stacklevel=2)
                self._process_group.clear_error()
                load_state(state.module, state.kept.weights)  # no step, but statistics of normalisation moved
                return message
            self._process_group.broadcast_buffers(*dict.fromkeys((state.module, state.evaluated)))
            record = {"epoch": number, **totals.means(), "learning_rates": self._step.rates}
            evaluation, judged = self.task.evaluation, self._frozen.validated(state.evaluated)
            if evaluation is not None and judged is not None:
                record.update(evaluation.evaluate(judged.module, judged.batches, self._process_group))
        record["seconds"] = time.monotonic() - started
        record = self._process_group.from_main_process(lambda: record)
        return self._close_epoch(number, record)

    def _steps(self, batches: EpochBatches, totals: Totals, progress: Progress) -> bool:
        """Take all steps of an epoch; return whether a callback wants training to end."""
        number = self.state.epoch
        opened = self._process_group.start_epoch(
            batches.epoch(number), seed_of(self.plan.seed, SeedPurpose.EPOCH, number)
        )
        for window in self._process_group.accumulation_windows(opened, self.plan.accumulation):
            if self._take_step(window, totals):
                return True
            n_rows = sum(batch.n_rows for batch in window) * self._process_group.n_processes
            progress.advance(n_rows, lambda: self._note(number, totals))
        totals.add_up(self._process_group)
        if not totals.n_rows:
            raise ValueError(f"the data gave no batch to train on{': all weigh 0' if totals.n_batches else ''}")
        if number == 0:
            _warn_of_other_number(self.task.batches, totals.n_batches)
        if not_finite(self.state.module) - self._never_finite:
            raise DivergedError(self._step.explain_divergence(totals.n_batches))
        return False

    def _take_step(self, window: list[TrainingBatch], totals: Totals) -> bool:
        """Take one step of the optimiser; return whether a callback wants training to end."""
        before = totals.loss
        total_weight = self._step.take(window, totals)
        if not self._watches_steps:
            return False
        mean = self._process_group.all_reduce_sum(totals.loss - before)[0] / (total_weight or 1)
        return self._process_group.from_main_process(
            lambda: _asks([callback.step(self.state, mean) for callback in self._callbacks])
        )

    def _close_epoch(self, number: int, record: dict[str, Any]) -> str | None:
        state, patience = self.state, self.plan.early_stopping
        score = None if self.task.evaluation is None else record[self.task.evaluation.score]
        if state.scheduler is not None and not steps_each_batch(state.scheduler):
            step_epoch(state.scheduler, record["loss"] if score is None else score)
        if patience is None or state.kept is None or _is_better(score, state.kept.score):
            state.kept = Snapshot.of(state.evaluated, number, state.step, score)
        state.epoch = number + 1
        state.history.records.append(record)
        if patience is not None and state.kept is not None:
            state.history.best_epoch = state.kept.epoch
        if self._process_group.from_main_process(
            lambda: _asks([callback(state, record) for callback in self.plan.callbacks])
        ):
            return "a callback ended it"
        if patience is not None and state.kept is not None and number - state.kept.epoch >= patience:
            name = "" if self.task.evaluation is None else self.task.evaluation.score.replace("_", " ")
            return f"the {name} did not fall for {patience} epochs"
        return None

    def _note(self, epoch: int, totals: Totals) -> str:
        rates = ", ".join(f"{name} {rate:.0e}" for name, rate in list(self._step.rates.items())[:3])
        means = totals.means()
        accuracy = "" if means["accuracy"] is None else f", accuracy {means['accuracy']:.3f}"
        return f"epoch {epoch + 1}/{self.plan.num_epochs}, loss {means['loss']:.3f}{accuracy}, {rates}"


def _state_at_start(task: Task) -> TrainingState:
    """Make the optimiser, the schedule and the average of weights that the plan of a task asks for."""
    plan = task.plan
    optimizer = make_optimizer(
        task.module, task.groups, plan.optimizer, plan.optimizer_params, has_l2_sp=plan.l2_sp is not None
    )
    scheduler = make_scheduler(
        optimizer,
        plan.scheduler,
        plan.scheduler_params,
        num_epochs=plan.num_epochs,
        steps_per_epoch=math.ceil(task.batches.n_batches / plan.accumulation),
    )
    average = None if plan.ema is None else averaged(task.module, plan.ema)
    return TrainingState(task.module, optimizer, scheduler, average)


def _warn_of_other_number(source: BatchSource, n_given: int) -> None:
    """Warn of a source of a method's own that gives another number of batches than it says: schedules go by that."""
    if not isinstance(source, TrainingBatches) and n_given != source.n_batches:
        name = type(source).__name__
        warnings.warn(
            f"{name} gave {n_given} batches in the first epoch and says that there are {source.n_batches}, which the "
            f"schedule goes by: set n_batches in {name}.__init__",
            UserWarning,
            stacklevel=2,
        )


def _is_better(score: float | None, best: float | None) -> bool:
    """Tell whether a score is below the best so far; NaN never is, and any other is below NaN."""
    return score is not None and math.isfinite(score) and (best is None or not best <= score)


def _asks(answers: list[Any]) -> bool:
    """Tell whether a callback asks to end training."""
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)


def _watches_steps(callback: Callback) -> bool:
    return type(callback).step is not Callback.step
