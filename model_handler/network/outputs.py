"""Outputs: the tensors in what a network or a layer returns, and the one that a layer's output stands for."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from model_handler.errors import ModelError

__all__ = ["select_tensor", "tensors_in"]


def select_tensor(value: object, name: str, index: int | None) -> Tensor:
    """Return the tensor that a layer's output stands for: `index` picks one, else its one floating tensor is meant.

    Raises ModelError, listing the valid names, if that is not one tensor.
    """
    if index is None and isinstance(value, Tensor):
        return value
    parts = tensors_in(value)
    if index is not None:
        if index < len(parts):
            return parts[index]
        raise ModelError(f"layer {name!r} returns {len(parts)} tensors, so there is no {name}[{index}]")
    # in outputs of transformers this one is the layer's, although `pooler_output` is floating too
    named = value.get("last_hidden_state") if isinstance(value, Mapping) else None
    if (hidden := getattr(value, "last_hidden_state", named)) is not None:
        return hidden
    floating = [number for number, part in enumerate(parts) if part.is_floating_point()]
    if len(floating) == 1:
        return parts[floating[0]]
    if not parts:
        raise ModelError(f"layer {name!r} returns no tensor but {type(value).__name__}")
    valid = ", ".join(f"{name}[{number}] {tuple(part.shape)}" for number, part in enumerate(parts))
    raise ModelError(f"layer {name!r} returns {len(parts)} tensors; name one of {valid}")


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors in a value of nested mappings and sequences, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, Sequence) else ()
    return [] if isinstance(value, str) else [tensor for part in parts for tensor in tensors_in(part)]
