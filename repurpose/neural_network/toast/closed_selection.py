"""A warning where the selection of a trained network lets nothing through, which no gradient can then open again.

Where cos(z_i, xi) is below 0 for all tokens, as after steps that were too large, s_i is 0: the network answers as it
does without steering, and only its head has learned.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from model_handler.data import as_batches, unmoved_generators
from repurpose.neural_network.toast.steered_network import SteeredNetwork
from repurpose.training.data.seeding import drawing_from

__all__ = ["warn_of_closed_selection"]


def warn_of_closed_selection(
    members: Sequence[nn.Module], data: object, reading: Mapping[str, Any], learning_rate: float
) -> None:
    """Give a UserWarning for members that select nothing of the first batch of their training data."""
    with drawing_from(0), unmoved_generators(data):
        batch = next(iter(as_batches(data, **reading)))
        closed = [isinstance(member, SteeredNetwork) and not member.share_selected(batch.inputs) for member in members]
    if not any(closed):
        return
    which = f"in {sum(closed)} of {len(members)} members " if len(members) > 1 else ""
    warnings.warn(
        f"TOAST's selection has closed {which}while it learned: none of {batch.n_rows} training rows has a token or a "
        "position whose cosine with xi is above 0, so nothing is fed back and the network answers without steering; "
        f"train with a lower learning rate, {learning_rate / 10:g} in place of {learning_rate:g}",
        UserWarning,
        stacklevel=2,
    )
