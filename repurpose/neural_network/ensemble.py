"""Ensembles: networks trained alike from different seeds, whose mean probability is the answer and which may disagree.

Lakshminarayanan, Pritzel and Blundell (2017), arXiv:1612.01474.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from repurpose.training.steps.forward import logits_of

__all__ = ["Ensemble", "joined", "member_probabilities", "members_of"]


class Ensemble(nn.Module):
    """Networks of one shape as one network: its logits are the logarithms of the mean of their probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """What the members take; log probabilities (n_rows, n_outputs)."""
        logits = torch.stack([logits_of(member(*inputs, **named)).float() for member in self.members])
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(self.members))


def joined(members: Sequence[nn.Module]) -> nn.Module:
    """One network as it is, several as an `Ensemble`."""
    return members[0] if len(members) == 1 else Ensemble(members)


def members_of(module: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble; of any other network, itself."""
    return list(module.members) if isinstance(module, Ensemble) else [module]


def member_probabilities(logits: np.ndarray, n_classes: int) -> np.ndarray:
    """Probabilities (n_members, n_rows, n_classes) of the members' logits side by side, (n_rows, all of them)."""
    by_member = logits.reshape(len(logits), -1, n_classes)
    return softmax(by_member, axis=2).swapaxes(0, 1)
