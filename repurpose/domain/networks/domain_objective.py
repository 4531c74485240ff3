"""What is minimised on two domains: the cross-entropy of rows that have a label, and what tells the domains apart."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_handler import ModelError
from repurpose.data.inputs import Inputs
from repurpose.domain.networks.domain_batches import CODES, IS_SOURCE, PROGRESS, WEIGHTS
from repurpose.domain.networks.gradient_reversal import set_reversals
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.steps.forward import call, logits_of
from repurpose.training.steps.objective import Objective

__all__ = ["AdaptationObjective", "DomainLoss", "DomainObjective", "ramp"]

Targets = Mapping[str, Tensor]
DomainLoss = Callable[[Tensor, Tensor], Tensor]


class DomainObjective(Objective):
    """The mean cross-entropy of the rows of `DomainBatches` that have a label.

    Parameters
    ----------
    class_weights : tensor of shape (n_outputs,) or None
    label_smoothing : float
    """

    looks_inside = False

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        self.class_weights, self.label_smoothing = class_weights, label_smoothing

    def loss(self, module: nn.Module, inputs: Inputs, targets: Targets) -> Tensor:
        """Compute the mean, 0 where no row has a label."""
        return self._of_labels(logits_of(call(module, inputs)), targets)

    def weight(self, batch: TrainingBatch) -> float:
        """Return the sum of the weights of the rows that have a label."""
        return float(self._weights(batch.targets).sum())

    def count_right(self, output: object, targets: Targets) -> tuple[Tensor | int, int]:
        """Count the rows whose largest logit is that of their class, among those that have one."""
        codes = targets[CODES]
        predicted = logits_of(output).detach().argmax(dim=1)
        return (predicted == codes).sum(), int((codes >= 0).sum())

    def describe(self) -> dict[str, object]:
        """Name the weights of the classes."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {"loss": type(self), "class weights": weights}

    def _of_labels(self, logits: Tensor, targets: Targets) -> Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        losses = functional.cross_entropy(
            logits.float(),
            targets[CODES],
            weight=weights,
            ignore_index=-1,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        total = self._weights(targets).sum()
        return (losses * targets[WEIGHTS]).sum() / torch.where(total > 0, total, 1)

    def _weights(self, targets: Targets) -> Tensor:
        """Return the weight of each row in the mean, 0 without a label: (n_rows,)."""
        codes = targets[CODES]
        weights = targets[WEIGHTS] * (codes >= 0)
        if self.class_weights is None:
            return weights
        return weights * self.class_weights.to(codes.device)[codes.clamp(min=0)]


class AdaptationObjective(DomainObjective):
    """Adds what a method makes of the rows of both domains at the layers that the network hands out, summed over these.

    It counts `adaptation_weight` times the ramp; where gradients are reversed in the network, these do, and it counts
    once.

    Parameters
    ----------
    domain_loss : callable
        Of rows of the source (n_s, width) and of the target (n_t, width) of one layer, each at least two, a number.
    adaptation_weight : float
    n_epochs : int
        The length of the training.
    described : dict
        What else must be the same when a training is resumed.
    """

    def __init__(
        self,
        domain_loss: DomainLoss,
        adaptation_weight: float,
        n_epochs: int,
        described: Mapping[str, object],
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        self.domain_loss, self.adaptation_weight, self.n_epochs = domain_loss, adaptation_weight, n_epochs
        self.described = described

    def loss(self, module: nn.Module, inputs: Inputs, targets: Targets) -> Tensor:
        """Compute the mean over labelled rows, and what the domains differ by."""
        strength = self.adaptation_weight * ramp(targets[PROGRESS][0] / self.n_epochs)
        is_reversed = set_reversals(module, strength)
        output: Any = call(module, inputs)
        loss, is_source = self._of_labels(logits_of(output), targets), targets[IS_SOURCE]
        layers = output["layers"].values() if 2 <= int(is_source.sum()) <= len(is_source) - 2 else ()
        with torch.autocast(is_source.device.type, enabled=False):  # means and products of many rows in full precision
            for rows in layers:
                difference = self._difference(rows[is_source], rows[~is_source])
                loss = loss + (difference if is_reversed else strength * difference)
        return loss

    def _difference(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        """Ask the method. Raises ModelError for anything but one number."""
        found: object = self.domain_loss(source_rows, target_rows)
        if not isinstance(found, Tensor) or found.numel() != 1:
            got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
            raise ModelError(f"{self.domain_loss.__qualname__} must return one number, a tensor, got {got}")
        return found.reshape(())

    def describe(self) -> dict[str, object]:
        """Name the loss of the domains and what it depends on."""
        return {**super().describe(), "domain loss": self.domain_loss, **self.described}


def ramp(progress: Tensor) -> Tensor:
    """Compute 2 / (1 + exp(-10 p)) - 1 of the share p of a training that is done: from 0 to nearly 1.

    Ganin et al. (2016), arXiv:1505.07818, section 5.2.2.
    """
    return 2 / (1 + torch.exp(-10 * progress)) - 1
