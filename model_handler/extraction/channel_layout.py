"""Channel layout: whether the channels are the second axis (maps of convolutions) or the last one.

The last one they are in tokens, and in maps of Swin and ConvNeXt blocks. A shape alone does not say, so the layers do:
the nearest layer upstream that fixes the layout decides.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import fx, nn

from model_handler.graph.nodes import target_name

__all__ = ["Layout", "layout_of_modules", "layout_of_node"]

Layout = Literal["first", "last"]

_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.PixelShuffle,
    nn.Upsample,
)
_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
)
_FIRST_OPERATIONS = (
    "conv",
    "batch_norm",
    "group_norm",
    "max_pool",
    "avg_pool",
    "adaptive_",
    "pixel_shuffle",
    "interpolate",
)
_LAST_OPERATIONS = ("linear", "layer_norm", "rms_norm", "embedding", "scaled_dot_product_attention")


def layout_of_modules(modules: Iterable[nn.Module]) -> Layout | None:
    """Return what the first of `modules` (nearest first) that fixes a layout says; None if none does."""
    return next((found for found in map(_layout_of_module, modules) if found), None)


def layout_of_node(node: fx.Node, modules: dict[str, nn.Module]) -> Layout | None:
    """Return the layout of a node's output: its own, or that of its nearest ancestor that fixes one."""
    ancestors, flipped = {node}, False
    # backwards in order of execution: among the ancestors the one computed last is nearest
    while node.op not in ("placeholder", "root"):
        if node in ancestors:
            found = _layout_of_call(node, modules)
            # a transpose swaps channels and positions: what is fixed upstream is to be read the other way round
            if found == "flip":
                flipped = not flipped
            elif found:
                return ("last" if found == "first" else "first") if flipped else found
            ancestors.update(node.all_input_nodes)
        node = node.prev
    return None


def _layout_of_call(node: fx.Node, modules: dict[str, nn.Module]) -> Layout | Literal["flip"] | None:
    if node.op == "call_module":
        return _layout_of_module(modules[str(node.target)])
    name = target_name(node.target)
    if name in ("permute", "transpose", "swapaxes"):
        axes = node.args[1:] if len(node.args) > 2 else node.args[-1]
        return _layout_of_axes(axes) if name == "permute" else _flip_of(axes)
    if name.startswith(_FIRST_OPERATIONS):
        return "first"
    return "last" if name.startswith(_LAST_OPERATIONS) else None


def _layout_of_module(module: nn.Module) -> Layout | None:
    # before `_LAST`: the LayerNorm2d of torchvision and timm is a LayerNorm that moves the second axis to the end first
    if type(module).__name__.lower().endswith("norm2d") or isinstance(module, _FIRST):
        return "first"
    if isinstance(module, _LAST):
        return "last"
    dims = getattr(module, "dims", None)
    if isinstance(dims, Sequence) and type(module).__name__ == "Permute":
        found = _layout_of_axes(dims)
        return None if found == "flip" else found
    # a container is laid out by the last of its modules that fixes a layout
    return layout_of_modules(reversed(list(module.children())))


def _layout_of_axes(axes: object) -> Layout | Literal["flip"] | None:
    axes = tuple(axes) if isinstance(axes, Sequence) else (axes,)
    if axes == (0, 2, 1):
        return "flip"
    if axes in ((0, 2, 3, 1), (0, 2, 3, 4, 1)):
        return "last"
    return "first" if axes in ((0, 3, 1, 2), (0, 4, 1, 2, 3)) else None


def _flip_of(axes: object) -> Literal["flip"] | None:
    axes = tuple(axes) if isinstance(axes, Sequence) else (axes,)
    return "flip" if set(axes) in ({1, 2}, {1, -1}, {-2, -1}, {2, -2}) else None
