"""Losses: cross-entropy has class weights and smoothing; mixing changes its inputs; L2-SP penalises leaving the source.

mixup: Zhang et al. (2018), arXiv:1710.09412. CutMix: Yun et al. (2019), arXiv:1905.04899. Both are torchvision's.
L2-SP: Li, Grandvalet and Davoine (2018), arXiv:1802.01483.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_handler.errors import ModelError
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["L2SPPenalty", "cross_entropy", "make_mixing", "weight_of"]


def cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Compute the mean cross-entropy of logits (n_rows, n_outputs) and codes (n_rows,), or shares (n_rows, n_outputs).

    It is 0 where the classes of all rows weigh nothing.
    """
    logits = logits.float()
    weights = None if class_weights is None else class_weights.to(logits)
    loss = functional.cross_entropy(logits, targets, weight=weights, label_smoothing=label_smoothing)
    if weights is None or weight_of(targets, class_weights):
        return loss
    return (logits * 0).nan_to_num().sum()  # infinite where a network masks classes


def weight_of(targets: Tensor, class_weights: Tensor | None) -> float:
    """Return what a mean over these targets is divided by, so that parts of a batch add up to the mean over all."""
    if class_weights is None or targets.is_floating_point():
        return float(len(targets))
    return float(class_weights[targets.cpu()].sum())


def make_mixing(plan: TrainingPlan, n_outputs: int) -> Callable[[TrainingBatch], TrainingBatch] | None:
    """Make what mixes the rows of a batch, or None; where both are asked for, a coin decides for each batch."""
    if not plan.mixup and not plan.cutmix:
        return None
    from torchvision.transforms import v2

    kinds = [(v2.MixUp, plan.mixup), (v2.CutMix, plan.cutmix)]
    chosen = [kind(alpha=alpha, num_classes=n_outputs) for kind, alpha in kinds if alpha]
    mix = chosen[0] if len(chosen) == 1 else v2.RandomChoice(chosen)

    def mixed(batch: TrainingBatch) -> TrainingBatch:
        inputs = batch.inputs
        if not isinstance(inputs, Tensor) or inputs.ndim != 4 or not inputs.is_floating_point():
            got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ModelError(
                f"mixup and cutmix mix images, floating inputs of shape (n, channels, height, width), got {got}"
            )
        inputs, targets = mix(inputs, batch.targets)
        return replace(batch, inputs=inputs, targets=targets)

    return mixed


class L2SPPenalty:
    """L2-SP: alpha/2 ||w_S - w_S0||^2 + beta/2 ||w_N||^2, of transferred weights w_S, from w_S0 on, and new ones w_N.

    `add_gradients` adds its gradient to what is there, as if it were part of the loss. Biases and normalisation that
    are new are left out, as weight decay spares them, unless `decay_all`.
    """

    def __init__(self, module: nn.Module, new: Collection[str], alpha: float, beta: float, *, decay_all: bool) -> None:
        own = dict(module.named_parameters())
        self.alpha, self.beta = alpha, beta
        self.transferred = [(own[name], own[name].detach().clone()) for name in own if name not in new]
        self.new = [own[name] for name in own if name in new and (decay_all or own[name].ndim > 1)]

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the gradient of the penalty to that of each parameter which has one, in place."""
        for parameter, start in self.transferred:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self.alpha)
        for parameter in self.new:
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=self.beta)
