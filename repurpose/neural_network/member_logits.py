"""`MemberLogits`: the logits of trained networks side by side, as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_handler.network.copying import deep_copy
from repurpose.data.inputs import Inputs
from repurpose.training.steps.forward import call, logits_of, on_device

__all__ = ["MemberLogits"]


class MemberLogits(nn.Module):
    """Maps what networks get to the first `n_classes` logits of each: float32 (n_rows, n_members * n_classes).

    It holds copies on the CPU, in evaluation mode.
    """

    def __init__(self, members: Sequence[nn.Module], n_classes: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(deep_copy(member).cpu() for member in members)
        self.n_classes = n_classes
        self.eval()

    def forward(self, inputs: Inputs) -> Tensor:
        return torch.cat([self._logits(member, inputs) for member in self.members], dim=1)

    def _logits(self, member: nn.Module, inputs: Inputs) -> Tensor:
        floating = (weight.dtype for weight in member.parameters() if weight.is_floating_point())
        placed = on_device(inputs, torch.device("cpu"), next(floating, torch.float32))
        return logits_of(call(member, placed)).float()[:, : self.n_classes]
