"""Sparse gradients come of embeddings made with ``sparse=True``, and not every optimiser takes them.

Whether an optimiser does is asked of itself, by a step of one weight.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from model_handler.errors import ModelError

__all__ = ["refuse_sparse_gradients"]


def refuse_sparse_gradients(
    module: nn.Module,
    entries: Iterable[Mapping[str, Any]],
    kind: type[Optimizer],
    given: Mapping[str, Any],
    *,
    has_l2_sp: bool,
) -> None:
    """Raise ModelError naming the layers whose gradients are sparse, where the optimiser or L2-SP does not take such.

    `entries` are the groups of parameters of an optimiser of class `kind`, which gets `given` too. Frozen layers have
    no gradient.
    """
    sparse = {part.weight: path for path, part in module.named_modules() if getattr(part, "sparse", None) is True}
    for entry in entries:
        layers = [sparse[parameter] for parameter in entry["params"] if parameter in sparse]
        if not layers:
            continue
        options = {name: value for name, value in entry.items() if name != "params"}
        reason = _objection_of_optimizer(kind, {**given, **options})
        if not reason and has_l2_sp:
            reason = "l2_sp adds to every number"
        if reason:
            raise ModelError(
                f"the layers {layers} were made with sparse=True and give sparse gradients, which this training by "
                f"{kind.__name__} does not take ({reason}). Set `sparse = False` on these layers of the source, freeze "
                f'them (learning_rates={{{layers[0]!r}: 0, "*": 1e-3}}), or take optimizer="SGD" or "Adagrad" without '
                "weight decay and without l2_sp"
            )


def _objection_of_optimizer(kind: type[Optimizer], options: Mapping[str, Any]) -> str:
    """Return what an optimiser says to a sparse gradient; "" where it takes it."""
    weight = nn.Parameter(torch.zeros(2, 1, dtype=torch.float32, device="cpu"))
    weight.grad = torch.eye(2, 1, dtype=torch.float32, device="cpu").to_sparse(1)
    try:
        optimizer: Any = kind
        optimizer([{**options, "params": [weight]}]).step()
    except Exception as error:  # each in its own words
        return str(error).partition(", please")[0]  # SparseAdam, which they point to, takes no other ones
    return ""
