"""Deep ensembles: networks trained alike from different seeds, whose mean probability is the prediction.

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

__all__ = ["Ensemble", "MemberProbabilities", "as_one_network", "member_probabilities", "members_of"]


class Ensemble(nn.Module):
    """Runs networks of one shape as one: its logits are the logarithms of the mean of their probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Map what the members take to log probabilities (n_rows, n_outputs)."""
        logits = torch.stack([logits_of(member(*inputs, **named)).float() for member in self.members])
        # log(1/M sum p_m), in logarithms throughout: a probability of 1e-40 would be 0 in float32
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(self.members))


class MemberProbabilities(nn.Module):
    """Maps logits of members side by side, (n_rows, n_members * n_classes), to their mean probabilities, float32."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, logits: Tensor) -> Tensor:
        """Return probabilities (n_rows, n_classes)."""
        members = logits.double().split(self.n_classes, dim=1)
        # in double first: of logits far apart float32 would make 0 on one machine, and a very small number on another
        probabilities = [member.softmax(dim=1).float() for member in members]
        return sum(probabilities[1:], probabilities[0]) / len(probabilities)


def as_one_network(members: Sequence[nn.Module]) -> nn.Module:
    """Return one network as it is, several as an `Ensemble`."""
    return members[0] if len(members) == 1 else Ensemble(members)


def members_of(module: nn.Module) -> list[nn.Module]:
    """List the networks of an ensemble; of any other network, itself."""
    return list(module.members) if isinstance(module, Ensemble) else [module]


def member_probabilities(logits: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities (n_members, n_rows, n_classes) of logits (n_rows, n_members * n_classes) side by side."""
    by_member = logits.reshape(len(logits), -1, n_classes)
    return softmax(by_member, axis=2).swapaxes(0, 1)
