"""Kinds: which adapters there are, the layers that each fits, and how it is made for one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from torch import nn

from model_handler.adapters.layouts import Piece, is_matrix_layer, is_norm, matrix_shape, n_outputs_of
from model_handler.adapters.low_rank import low_rank
from model_handler.adapters.offsets import bias_offsets, norm_offsets
from model_handler.adapters.scale_shift import scale_shift
from model_handler.errors import ModelError, nearest
from model_handler.network.adapted_layer import LayerAdapter

__all__ = ["KINDS", "Kind", "Sizes", "kind_named", "misfit_of_rank"]

Made = tuple[LayerAdapter, dict[str, nn.Parameter]]


@dataclass(frozen=True)
class Sizes:
    """The numbers that `add_adapters` is given for LoRA."""

    rank: int = 4
    alpha: float | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of adapter of layers: those it `fits`, in words what it `needs`, and what "auto" means for it."""

    fits: Callable[[nn.Module], bool]
    needs: str
    make: Callable[[nn.Module, Sequence[Piece], Sizes], Made]
    auto: str = "all"


def _has_bias(layer: nn.Module) -> bool:
    known = is_matrix_layer(layer) or is_norm(layer)
    return known and any(layer._parameters.get(name) is not None for name in ("bias", "in_proj_bias"))


def _has_weight(layer: nn.Module) -> bool:
    return is_matrix_layer(layer) or _is_affine_norm(layer)


def _is_affine_norm(layer: nn.Module) -> bool:
    return is_norm(layer) and layer._parameters.get("weight") is not None


KINDS: Mapping[str, Kind] = {
    "lora": Kind(
        is_matrix_layer,
        "a linear layer or a convolution",
        lambda layer, pieces, sizes: low_rank(layer, pieces, sizes.rank, sizes.alpha),
        auto="attention",
    ),
    "bias": Kind(
        _has_bias,
        "a linear layer, a convolution or a normalisation with a bias",
        lambda layer, pieces, _: bias_offsets(layer, pieces),
    ),
    "norm": Kind(
        _is_affine_norm, "a normalisation with weights of its own", lambda layer, pieces, _: norm_offsets(layer)
    ),
    "scale_shift": Kind(
        _has_weight,
        "a linear layer, a convolution or a normalisation with weights of its own",
        lambda layer, pieces, _: scale_shift(layer, pieces),
    ),
}


def kind_named(kind: str, sizes: Sizes) -> Kind:
    """Return a kind by its name. Raises ModelError for an unknown one, and for numbers that it cannot take."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelError(f"there is no kind of adapter {kind!r}; nearest: {nearest(str(kind), [*KINDS, 'prompt'])}")
    rank, alpha = sizes.rank, sizes.alpha
    if not isinstance(rank, Integral) or isinstance(rank, bool) or rank < 1:
        raise ModelError(f"rank must be a whole number of at least 1, got {rank!r}")
    if alpha is not None and not (isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 < alpha < math.inf):
        raise ModelError(f"alpha must be a number above 0, or None for a scale of 1, got {alpha!r}")
    if alpha is not None and kind != "lora":
        raise ModelError(f"alpha={alpha!r} is for kind='lora': {kind!r} has no scale")
    return KINDS[kind]


def misfit_of_rank(layer: nn.Module, pieces: Sequence[Piece], rank: int) -> str:
    """Return why a rank is too high for a layer, or "" where it fits all its pieces."""
    for piece in pieces:
        if piece.weight is not None:
            n_outputs, n_inputs = n_outputs_of(layer, piece), matrix_shape(layer, piece.weight)[1]
            if rank > min(n_outputs, n_inputs):
                at_most = min(n_outputs, n_inputs)
                return f"has {n_outputs} outputs of {n_inputs} inputs each, so rank is at most {at_most}, got {rank}"
    return ""
