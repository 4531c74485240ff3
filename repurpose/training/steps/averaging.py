"""Weights are averaged over the steps of a training (EMA), by torch.optim.swa_utils.

The decay begins low, (1 + n) / (10 + n) after n steps, so that a short training is not averaged with its beginning.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model_handler.network.ambient_modes import on_cpu
from model_handler.network.copying import CopyingValues

__all__ = ["averaged"]


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Copy `module`; parameters and floating buffers of the copy become exponential moving averages of its own."""

    @torch.no_grad()
    def average(means: Sequence[Tensor], values: Sequence[Tensor], _: object) -> None:
        n = int(averages.n_averaged)  # on the CPU; the one given is on the device, and to read it is to wait for a GPU
        keep = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(means, values):
            _move(mean, value, 1 - keep)

    with CopyingValues(), on_cpu():  # its count
        averages = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    return averages


def _move(mean: Tensor, value: Tensor, share: float) -> None:
    """Move a mean towards a value, in place; equal numbers stay, as infinite ones, in masks, would become NaN."""
    is_averaged = (mean.is_floating_point() or mean.is_complex()) and mean.dtype.itemsize > 1
    if is_averaged and mean.layout is torch.strided:
        mean.copy_(torch.where(mean == value, mean, mean.lerp(value, share)))
    else:  # counters, such as those of BatchNorm, and what torch cannot average: sparse buffers, numbers of 8 bits
        mean.copy_(value)
