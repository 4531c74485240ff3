"""Padding of texts: which input tells tokens from padding, and texts of padding alone, which are refused.

Nothing is left of them to learn or to judge by, and what a network makes of them depends on its padding.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data import Batch

__all__ = ["MASK", "equally_long", "refuse_padding_alone", "without_padding_alone"]

MASK = "attention_mask"  # the input that is true, or 1, where a token is no padding


def refuse_padding_alone(inputs: Any, rows: np.ndarray | None = None, n_before: int = 0) -> None:
    """Raise ValueError for a text that is padding alone, by its row in the data.

    `rows` are the numbers of the rows of these inputs; without them, `n_before` rows of the data came earlier. Masks of
    other axes than (n_rows, n_tokens) are not judged: some networks take those of pairs of tokens.
    """
    mask = inputs.get(MASK) if isinstance(inputs, Mapping) else None
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return
    if (filled := mask.bool().any(dim=1)).all():
        return
    place = int((~filled).nonzero()[0])
    row = n_before + place if rows is None else int(rows[place])
    raise ValueError(
        f"row {row} of the data has no token: its {MASK} is 0 everywhere; leave out empty texts, or give them one token"
    )


def equally_long(batches: Sequence[Mapping[str, Tensor]]) -> Sequence[Mapping[str, Tensor]]:
    """Fill texts of several batches up to the longest with zeros, which the mask leaves out; leave others alone."""
    if any(MASK not in given or given[MASK].ndim != 2 for given in batches):
        return batches
    longest = max(given[MASK].shape[1] for given in batches)
    return [{part: _to_length(given[part], given[MASK], longest) for part in given} for given in batches]


def without_padding_alone(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of data as they are. Raises ValueError for a text that is padding alone."""
    n_before = 0
    for batch in batches:
        refuse_padding_alone(batch.inputs, batch.rows, n_before)
        n_before += batch.n_rows
        yield batch


def _to_length(part: Tensor, mask: Tensor, length: int) -> Tensor:
    if part.ndim < 2 or part.shape[:2] != mask.shape or part.shape[1] == length:
        return part
    more = part.new_zeros((part.shape[0], length - part.shape[1], *part.shape[2:]))
    return torch.cat([part, more], dim=1)
