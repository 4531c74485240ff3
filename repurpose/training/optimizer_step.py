"""A step of the optimiser computes the gradient of the mean over all rows of a window of batches, and moves by it.

Each batch is computed in pieces where memory asks for it. Every piece gives a mean over its own rows; multiplied by the
share of the piece in the weight of the window, over all processes, these add up to the mean over all rows.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from model_handler.network.precision import computing_in
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.plan.norm_statistics import explaining_single_rows
from repurpose.training.plan.schedulers import steps_each_batch
from repurpose.training.state import TrainingState
from repurpose.training.steps.divergence import explain_divergence
from repurpose.training.steps.forward import moved, on_device
from repurpose.training.steps.gradient_reach import GradientReach
from repurpose.training.steps.losses import L2SPPenalty
from repurpose.training.steps.objective import DivergedError, value_of, weight_in_mean
from repurpose.training.task import Task
from repurpose.training.totals import Totals

__all__ = ["OptimizerStep"]


class OptimizerStep:
    """Takes steps for a task, moving its `state` on.

    `reach` watches whether gradients reach what is to learn, and `rates` are the learning rates of the last step, by
    group. What the network returns is seen by `see_output`, a forward hook on what is called.
    """

    def __init__(
        self, task: Task, state: TrainingState, process_group: ProcessGroup, rows_at_once: int | None = None
    ) -> None:
        plan, module = task.plan, task.module
        self.task = task
        self.state = state
        self.rows_at_once = rows_at_once
        self.reach = GradientReach(module, task.groups, process_group, own_loss=task.objective.looks_inside)
        self.rates: dict[str, float] = {}
        self._process_group = process_group
        first = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self._device, self._dtype = first.device, first.dtype
        self._parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        self._output: object = None  # of the network, in the last pass
        self._l2_sp = None
        if plan.l2_sp_coefficients is not None:
            self._l2_sp = L2SPPenalty(module, task.new, *plan.l2_sp_coefficients, decay_all=plan.decay_all)

    def take(self, window: list[TrainingBatch], totals: Totals) -> float:
        """Take one step and add what it saw to the totals; return the weight of the window over all processes.

        Raises DivergedError where the loss is NaN or infinite, before the weights move.
        """
        parts = [part for batch in window for part in self._parts(batch)]
        (total_weight,) = self._process_group.all_reduce_sum(sum(weight for _, weight in parts))
        for number, (part, weight) in enumerate(parts):
            is_last = number == len(parts) - 1
            targets = moved(part.targets, self._device)
            with self._process_group.no_sync_unless_last(is_last=is_last):
                with computing_in(self.task.plan.precision, self._device), explaining_single_rows():
                    loss = self._process_group.loss(on_device(part.inputs, self._device, self._dtype), targets)
                value = value_of(loss)
                if not math.isfinite(value):  # before its gradient: the weights are still those of a finite loss
                    raise DivergedError(self.explain_divergence(totals.n_batches, part.inputs))
                self.reach.look(loss)
                if number == 0:  # not before: the last gradients tell where it went wrong
                    self.state.optimizer.zero_grad(set_to_none=True)
                share = loss if weight == total_weight else loss * (weight / total_weight)
                self._process_group.backward(share, is_last=is_last)
            output, self._output = self._output, None  # or its graph would stay in memory during the next pass
            if weight:
                totals.add(value, weight, part.n_rows, self.task.objective.count_right(output, targets))
        totals.n_batches += len(window)
        self.reach.note_step()
        self._update()
        return total_weight

    def explain_divergence(self, batch: int, inputs: Inputs | None = None) -> str:
        """Say which batch diverged and why, as far as inputs, gradients and rates tell."""
        state, groups = self.state, self.task.groups
        return explain_divergence(
            groups, state.optimizer, inputs, epoch=state.epoch, batch=batch, is_first_step=not state.step
        )

    def see_output(self, module: nn.Module, inputs: object, output: object) -> None:
        """Keep what the network returned, by which rows are judged; a forward hook."""
        self._output = output

    def _parts(self, batch: TrainingBatch) -> Iterator[tuple[TrainingBatch, float]]:
        """Cut a batch, mixed if the objective says so, into pieces that fit into memory, each with its weight."""
        objective = self.task.objective
        if not isinstance(batch, TrainingBatch):
            source = type(self.task.batches).__name__
            raise TypeError(f"{source}.epoch must give objects of TrainingBatch, got {type(batch).__name__}")
        batch = batch if objective.mixing is None else objective.mixing(batch)
        for piece in batch.pieces(self.rows_at_once):
            yield piece, weight_in_mean(objective, piece)

    def _update(self) -> None:
        """Move the weights by the gradients that are there, and with them the schedule and the average."""
        state = self.state
        if self._l2_sp is not None:
            self._l2_sp.add_gradients()
        if self.task.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.task.plan.clip_norm)
        self.rates = self._learning_rates()  # before the schedule moves them to those of the next step
        state.optimizer.step()
        if state.scheduler is not None and steps_each_batch(state.scheduler):
            state.scheduler.step()
        if state.average is not None:
            state.average.update_parameters(state.module)
        with torch.no_grad():
            self.task.objective.after_step(state.module)
        state.step += 1

    def _learning_rates(self) -> dict[str, float]:
        """Return the rate of each group now; of groups of one name, the highest."""
        rates: dict[str, float] = {}
        for group, entry in zip(self.task.groups, self.state.optimizer.param_groups):
            rates[group.name] = max(rates.get(group.name, 0.0), float(entry["lr"]))
        return rates
