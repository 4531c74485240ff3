"""Refusing: what an adapter cannot be put on, found before anything is changed."""

from collections.abc import Mapping, Sequence

from torch import nn

from model_handler.adapters.kinds import Sizes, misfit_of_rank
from model_handler.adapters.layouts import Piece
from model_handler.errors import ModelError
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.surgery.computed_weights import is_reparametrised

__all__ = ["refuse_misfits", "tied_tensors"]


def refuse_misfits(network: nn.Module, chosen: Mapping[str, Sequence[Piece]], kind: str, sizes: Sizes) -> None:
    """Raise ModelError listing every chosen layer that cannot take an adapter, with the reason."""
    tied = tied_tensors(network)
    reasons = {
        path: _why_not(network.get_submodule(path), path, pieces, kind, sizes, tied) for path, pieces in chosen.items()
    }
    mistakes = [f"{path!r} {reason}" for path, reason in reasons.items() if reason]
    if mistakes:
        raise ModelError("\n".join(mistakes))


def tied_tensors(network: nn.Module) -> dict[str, str]:
    """Return the parameters, by name, that another module has too, each with a name that it has there."""
    names: dict[int, list[str]] = {}
    for path, module in network.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                names.setdefault(id(parameter), []).append(f"{path}.{name}".lstrip("."))
    return {
        name: next(other for other in shared if other != name)
        for shared in names.values()
        if len(shared) > 1
        for name in shared
    }


def _why_not(
    layer: nn.Module, path: str, pieces: Sequence[Piece], kind: str, sizes: Sizes, tied: Mapping[str, str]
) -> str:
    if isinstance(layer, AdaptedLayer):
        return f"has an adapter already, {layer._adapter}: call merge_adapters() or remove_adapters() first"
    if is_reparametrised(layer):
        return "computes its weight of others, as weight norm and pruning do, and would lose what an adapter adds"
    targets = [name for piece in pieces for name in (piece.weight, piece.bias) if name is not None]
    for name in targets:
        held = layer._parameters.get(name)
        if held is None or not held.is_floating_point():
            return f"has no floating-point parameter {name!r}"
        if other := tied.get(f"{path}.{name}".lstrip(".")):
            return f"has its {name} tied to {other!r}, which an adapter could not be merged into; name other layers"
    return misfit_of_rank(layer, pieces, sizes.rank) if kind == "lora" else ""
