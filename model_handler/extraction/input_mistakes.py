"""Input mistakes: what about the inputs of a network may be why a layer fails on them, and how to give them instead.

Dtypes, images with the channels last, and one image where a batch was meant: torch's own messages speak of what became
of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.graph.nodes import target_name
from model_handler.network.inputs import NamedInputs

__all__ = ["misfit_of", "refuse_one_image"]

_OF_DTYPE = ("dtype", "scalar type", "not implemented for", "should be the same", "Promotion", "tensors of type")
# grey, RGB and RGBA: an axis of such a size is taken for the channels
_CHANNELS = (1, 3, 4)
_ONE_IMAGE = "if this is one image and not a batch, give image[None]; several grey ones are X[:, None]"
# what networks do to images before their first convolution, such as subtracting a mean
_KEEPING_AXES = ("add", "sub", "mul", "truediv", "div", "to", "float", "clone", "contiguous", "dropout", "relu")


def misfit_of(inputs: NamedInputs, error: Exception, modules: Mapping[str, nn.Module]) -> str:
    """Return why a network of some modules may fail with an error on its inputs, and the fix: a sentence, or ""."""
    tensors = {name: part for name, part in inputs.items() if isinstance(part, Tensor)}
    # tokens (n, length, features) have three axes and are right: axes are judged for images alone
    takes_images = any(isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) for module in modules.values())
    hints = (
        _of_dtype(name, part, str(error), len(tensors) > 1)
        or (_of_axes(name, part, len(tensors) > 1) if takes_images else "")
        for name, part in tensors.items()
    )
    return next((f". {hint}" for hint in hints if hint), "")


def refuse_one_image(graph: fx.Graph, modules: Mapping[str, nn.Module], inputs: NamedInputs) -> None:
    """Raise ModelError where a convolution would take the whole input for one image: it has one axis too few.

    torch's convolutions then give an output without rows, whose channels could be mistaken for these.
    """
    for node in graph.find_nodes(op="placeholder"):
        part = inputs.get(str(node.target))
        if not isinstance(part, Tensor):
            continue
        for path, n_axes in _convolutions(node, modules):
            if part.ndim == n_axes - 1:
                raise ModelError(
                    f"layer {path!r} takes batches of {n_axes} axes, (n, channels, ...), and the inputs have the shape "
                    f"{tuple(part.shape)}: {_ONE_IMAGE}"
                )


def _of_dtype(name: str, part: Tensor, message: str, several: bool) -> str:
    kind, which = str(part.dtype).removeprefix("torch."), f"The input {name!r} is" if several else "The inputs are"
    # indices first: torch's message about them names a scalar type too, and asks for the opposite
    if part.is_floating_point() and part.dtype in (torch.float32, torch.float64) and "indices" in message:
        return f"{which} {kind}, and an embedding takes whole numbers: give X.astype('int64'), or X.long() of a tensor"
    if part.is_floating_point() or not any(sign in message for sign in _OF_DTYPE):
        return ""
    if "indices" in message:
        return f"{which} {kind}, and an embedding takes int64: give X.astype('int64'), or X.long() of a tensor"
    return (
        f"{which} {kind}, and the network computes with floating numbers: give X.astype('float32'), or X.float() of a "
        "tensor; pixels scaled as in its training"
    )


def _of_axes(name: str, part: Tensor, several: bool) -> str:
    if not part.is_floating_point():
        return ""
    shape = tuple(part.shape)
    which = f"The inputs {name!r}" if several else "The inputs"
    if part.ndim == 4 and shape[3] in _CHANNELS and shape[1] not in _CHANNELS:
        return (
            f"{which} of shape {shape} look like images with the channels last, and the network takes (n, channels, "
            "height, width): give X.transpose(0, 3, 1, 2), or X.permute(0, 3, 1, 2) of a tensor"
        )
    fix = {2: "if this is one grey image, give image[None, None]", 3: _ONE_IMAGE}.get(part.ndim)
    return f"{which} have the shape {shape}: {fix}" if fix else ""


def _convolutions(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, int]]:
    """Yield the convolutions that read a node, directly or through what keeps its axes, and their batches' axes."""
    left, seen = list(node.users), set[fx.Node]()
    while left:
        user = left.pop()
        if user in seen:
            continue
        seen.add(user)
        module: Any = modules.get(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, nn.modules.conv._ConvNd):
            yield str(user.target), len(module.kernel_size) + 2
        elif module is None and user.op != "output" and target_name(user.target).rstrip("_") in _KEEPING_AXES:
            left.extend(user.users)
